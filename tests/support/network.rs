//! Two endpoints over a bad network.
