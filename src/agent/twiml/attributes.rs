//! The attributes of one verb: each is asked for once, and what is left over is remarked.

use crate::agent::script::step::Method;
use crate::agent::script::step::Next;
use crate::agent::twiml::Remark;
use crate::agent::twiml::tree::Element;
use std::time::Duration;

/// The attributes of an element, as they are asked for.
pub(super) struct Attributes<'a> {
    element: &'a Element,
    asked: Vec<&'static str>,
}

impl<'a> Attributes<'a> {
    pub(super) const fn of(element: &'a Element) -> Self {
        Self { element, asked: Vec::new() }
    }

    /// The value of one.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.asked.push(name);
        let own = self.element.attributes.iter().find(|(own, _)| own == name);
        own.map(|(_, value)| value.as_str())
    }

    /// A number within bounds; what is none is remarked.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        (least, most): (u32, u32),
        remarks: &mut Vec<Remark>,
    ) -> Option<u32> {
        let value = self.text(name)?.trim();
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.remark(format!("{name} is no number from {least} to {most}"), remarks);
        }
        number
    }

    /// A time in seconds.
    pub(super) fn seconds(
        &mut self,
        name: &'static str,
        bounds: (u32, u32),
        remarks: &mut Vec<Remark>,
    ) -> Option<Duration> {
        let seconds = self.number(name, bounds, remarks)?;
        Some(Duration::from_secs(u64::from(seconds)))
    }

    pub(super) fn flag(&mut self, name: &'static str, remarks: &mut Vec<Remark>) -> Option<bool> {
        match self.text(name)?.trim() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.remark(format!("{name} is neither true nor false"), remarks);
                None
            }
        }
    }

    /// Where a document comes from, if the element says so.
    pub(super) fn next(
        &mut self,
        name: &'static str,
        method: &'static str,
        remarks: &mut Vec<Remark>,
    ) -> Option<Next> {
        let method = self.method(method, remarks);
        let address = self.text(name)?.trim().to_owned();
        Some(Next::Url { address, method })
    }

    pub(super) fn method(&mut self, name: &'static str, remarks: &mut Vec<Remark>) -> Method {
        match self.text(name).map(str::trim) {
            None => Method::Post,
            Some(value) if value.eq_ignore_ascii_case("post") => Method::Post,
            Some(value) if value.eq_ignore_ascii_case("get") => Method::Get,
            Some(_) => {
                self.remark(format!("{name} is neither GET nor POST"), remarks);
                Method::Post
            }
        }
    }

    /// Reads over those that ask for nothing we do otherwise.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.asked.extend_from_slice(names);
    }

    pub(super) fn remark(&self, what: String, remarks: &mut Vec<Remark>) {
        let Element { name, at, .. } = self.element;
        remarks.push(Remark { at: *at, what: format!("<{name}>: {what}") });
    }

    /// Remarks those nobody asked for.
    pub(super) fn finish(self, remarks: &mut Vec<Remark>) {
        for (name, _) in &self.element.attributes {
            if !self.asked.contains(&name.as_str()) && !name.starts_with("xmlns") {
                let shown: String = name.chars().take(64).collect();
                self.remark(format!("{shown} is not supported"), remarks);
            }
        }
    }
}
