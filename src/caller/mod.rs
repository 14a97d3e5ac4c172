//! The test caller: a user agent client with media and a verdict.
