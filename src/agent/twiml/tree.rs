//! The elements of a document, within bounds.

use crate::agent::twiml::Place;
use crate::agent::twiml::TwimlError;
use crate::types::limit::TWIML_BYTES_MAX;
use crate::types::limit::TWIML_DEPTH_MAX;
use crate::types::limit::TWIML_ELEMENTS_MAX;
use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::BytesRef;
use quick_xml::events::BytesStart;
use quick_xml::events::Event;

/// An element with all that is in it.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) at: Place,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Self>,
    /// Its text and that of its children, in order.
    pub(super) text: String,
}

/// Reads a document into its root.
pub(super) fn read(document: &[u8]) -> Result<Element, TwimlError> {
    let begin = Place { line: 1, column: 1 };
    let fail = |what: String| Err(TwimlError { at: begin, what });
    if document.len() > TWIML_BYTES_MAX {
        return fail(format!("the document is longer than {TWIML_BYTES_MAX} bytes"));
    }
    let Ok(text) = std::str::from_utf8(document) else {
        return fail("the document is not UTF-8".to_owned());
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    if text.is_empty() {
        return fail("the document is empty".to_owned());
    }
    Growing { text, open: Vec::new(), root: None, elements: 0 }.read()
}

/// A tree that is being read.
struct Growing<'a> {
    text: &'a str,
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Growing<'_> {
    fn read(mut self) -> Result<Element, TwimlError> {
        let mut reader = Reader::from_str(self.text);
        loop {
            let from = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
                    return Err(self.wrong(at, error.to_string()));
                }
            };
            match event {
                Event::Start(tag) => self.begin(&tag, from)?,
                Event::Empty(tag) => {
                    self.begin(&tag, from)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => self.say(&text.xml10_content(), from)?,
                Event::CData(text) => self.say(&text.xml10_content(), from)?,
                Event::GeneralRef(name) => self.refer(&name, from)?,
                Event::DocType(_) => {
                    return Err(self.wrong(from, "a document type is not read".to_owned()));
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => (),
                Event::Eof => break,
            }
        }
        if let Some(open) = self.open.last() {
            let what = format!("<{}> is not closed", open.name);
            return Err(TwimlError { at: open.at, what });
        }
        let nothing = self.wrong(0, "the document holds no element".to_owned());
        self.root.ok_or(nothing)
    }

    fn begin(&mut self, tag: &BytesStart<'_>, from: usize) -> Result<(), TwimlError> {
        self.elements += 1;
        if self.elements > TWIML_ELEMENTS_MAX {
            return Err(self.wrong(from, format!("more than {TWIML_ELEMENTS_MAX} elements")));
        }
        if self.open.len() >= TWIML_DEPTH_MAX {
            return Err(self.wrong(from, format!("elements deeper than {TWIML_DEPTH_MAX}")));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.wrong(from, "a second element after the first".to_owned()));
        }
        let mut attributes = Vec::new();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| self.wrong(from, error.to_string()))?;
            let value = attribute.normalized_value(XmlVersion::default());
            let value = value.map_err(|error| self.wrong(from, error.to_string()))?;
            let name: &str = attribute.key.as_ref();
            attributes.push((name.to_owned(), value.into_owned()));
        }
        let name: &str = tag.name().into_inner();
        let name = name.to_owned();
        let (at, text) = (self.place(from), String::new());
        self.open.push(Element { name, at, attributes, children: Vec::new(), text });
        Ok(())
    }

    /// The innermost element is complete; the reader has seen to it that there is one.
    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => {
                // What is said with marks of speech around it is said all the same.
                parent.text.push_str(&element.text);
                parent.children.push(element);
            }
            None => self.root = Some(element),
        }
    }

    fn say(&mut self, text: &str, from: usize) -> Result<(), TwimlError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => (),
            None => return Err(self.wrong(from, "text outside of the element".to_owned())),
        }
        Ok(())
    }

    fn refer(&mut self, name: &BytesRef<'_>, from: usize) -> Result<(), TwimlError> {
        let named: &str = name;
        let character = match named {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => name.resolve_char_ref().ok().flatten(),
        };
        match character {
            Some(character) => self.say(character.encode_utf8(&mut [0; 4]), from),
            None => Err(self.wrong(from, "an unknown entity".to_owned())),
        }
    }

    fn wrong(&self, offset: usize, what: String) -> TwimlError {
        TwimlError { at: self.place(offset), what }
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Place { line, column }
    }
}
