//! Recordings: what media sessions put on their tapes, written to files off the media threads, encrypted where
//! there is a key, mended after a crash, and read again for who listens.
//!
//! `recorder` is the handle, `writer` the threads, `sink` a file that is written, `audio` one that is read, `encoded` one
//! that is read as Opus or MP3,
//! `envelope` its encryption, `note` what is known of a recording until the database has it.

pub mod audio;
pub mod encoded;
mod envelope;
pub mod keys;
pub mod note;
pub mod recorder;
mod recovery;
mod sink;
#[cfg(test)]
mod tests;
mod wav;
mod writer;
