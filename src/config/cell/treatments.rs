//! The keys of `[[treatment]]`.

use super::super::reader::{Reader, Spot};
use super::Names;
use crate::domain::id::{QueueId, TreatmentId};
use crate::domain::queue::Treatment;
use std::collections::BTreeMap;

/// The longest name of a context or extension, in bytes: Asterisk keeps 80 with the closing NUL.
const PLACE_MAX: usize = 79;

/// All treatments.
pub(super) struct Treatments {
    pub treatments: BTreeMap<TreatmentId, Treatment>,
    pub names: Names<TreatmentId>,
    /// The queues that they overflow to, which were not looked at yet.
    pub overflows: Vec<(QueueId, Spot)>,
}

pub(super) fn all(root: &Reader<'_, '_>, tables: Vec<Reader<'_, '_>>) -> Treatments {
    let names = Names::new(root, "treatment", &tables);
    let mut all = Treatments { treatments: BTreeMap::new(), names, overflows: Vec::new() };
    for mut t in tables {
        let id = all.names.read(&mut t);
        let spot = t.spot_of("overflow");
        let treatment = one(t);
        if let Some(Treatment::Overflow(queue)) = &treatment {
            all.overflows.push((queue.clone(), spot));
        }
        if let (Some(id), Some(treatment)) = (id, treatment) {
            all.treatments.insert(id, treatment);
        }
    }
    all
}

fn one(mut t: Reader<'_, '_>) -> Option<Treatment> {
    let overflow = t.text("overflow", str::parse::<QueueId>).map(Treatment::Overflow);
    let context = t.text("context", |text| place(text, b"_-."));
    let extension = t.text("extension", |text| place(text, b"_-.+*#"));
    let cause = t.number("cause", 1..=127, " (a Q.850 cause)").map(|cause| Treatment::HangUp { cause });
    match (t.has("context"), t.has("extension")) {
        (true, false) => t.wrong(&t.spot_of("extension"), "missing: a context needs an extension"),
        (false, true) => t.wrong(&t.spot_of("context"), "missing: an extension needs a context"),
        (true, true) | (false, false) => {}
    }
    let ways = [t.has("overflow"), t.has("context") || t.has("extension"), t.has("cause")];
    if ways.iter().filter(|way| **way).count() != 1 {
        let message = "write one of: overflow; context and extension; cause";
        t.wrong(t.spot(), message);
    }
    t.done();
    let dialplan =
        context.zip(extension).map(|(context, extension)| Treatment::Dialplan { context, extension });
    overflow.or(dialplan).or(cause)
}

/// What cannot be taken for anything else in a dialplan or an address.
fn place(text: &str, marks: &[u8]) -> Result<Box<str>, String> {
    let fits = (1..=PLACE_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b));
    let marks: Vec<String> = marks.iter().map(|b| format!("'{}'", char::from(*b))).collect();
    if fits {
        Ok(text.into())
    } else {
        Err(format!("write 1 to {PLACE_MAX} letters, digits and {}", marks.join(" ")))
    }
}
