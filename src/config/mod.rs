//! Configuration: text to checked configuration, or every problem with its place.
