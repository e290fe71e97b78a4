//! A strict reader of the Prometheus text format 0.0.4, for tests: whatever the format does not
//! allow, or a scraper would warn about, is an error.

use std::collections::{BTreeMap, BTreeSet};

/// A family as it was read.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<ReadSample>,
}

/// A sample line as it was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadSample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads a whole exposition.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut seen = BTreeSet::new();
    for line in text.split_terminator('\n') {
        let fail = |what: &str| format!("{what}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| fail("no help"))?;
            check_name(name).map_err(fail)?;
            if families.contains_key(name) {
                return Err(fail("a family twice"));
            }
            let help = unescape(help, false).map_err(fail)?;
            let family = Family {
                help,
                ..Family::default()
            };
            families.insert(name.to_owned(), family);
            current = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| fail("no type"))?;
            if current.as_deref() != Some(name) {
                return Err(fail("a type that follows no help"));
            }
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(fail("an unknown type"));
            }
            let family = families.get_mut(name).ok_or_else(|| fail("no family"))?;
            if !family.kind.is_empty() {
                return Err(fail("a type twice"));
            }
            kind.clone_into(&mut family.kind);
        } else {
            let sample = sample(line).map_err(|what| fail(&what))?;
            let name = current.as_ref().ok_or_else(|| fail("no family"))?;
            let family = families.get_mut(name).ok_or_else(|| fail("no family"))?;
            if !belongs(&sample, name, &family.kind) {
                return Err(fail("a sample of another family"));
            }
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(fail("a sample twice"));
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        check_family(name, family)?;
    }
    Ok(families)
}

fn belongs(sample: &ReadSample, family: &str, kind: &str) -> bool {
    let Some(suffix) = sample.name.strip_prefix(family) else {
        return false;
    };
    let has_bound = sample.labels.contains_key("le");
    match (kind, suffix) {
        ("counter" | "gauge", "") | ("histogram", "_sum" | "_count") => !has_bound,
        ("histogram", "_bucket") => has_bound,
        _ => false,
    }
}

fn check_family(name: &str, family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.samples.is_empty() {
        return Err(format!("{name} has no type or no samples"));
    }
    if family.kind == "counter" && (!name.ends_with("_total") || has_negative(family)) {
        return Err(format!("{name} is no counter"));
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let mut series: BTreeMap<_, Vec<ReadSample>> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        series.entry(labels).or_default().push(sample.clone());
    }
    for samples in series.values() {
        check_histogram(name, samples)?;
    }
    Ok(())
}

fn has_negative(family: &Family) -> bool {
    family.samples.iter().any(|sample| sample.value < 0.0)
}

/// Buckets ascend, end in +Inf, and that one is the count, which comes last after the sum.
fn check_histogram(name: &str, samples: &[ReadSample]) -> Result<(), String> {
    let [buckets @ .., sum, count] = samples else {
        return Err(format!("{name} lacks lines"));
    };
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in buckets {
        let bound = number(bucket.labels.get("le").map_or("", String::as_str))?;
        if !bucket.name.ends_with("_bucket") || bound <= last.0 || bucket.value < last.1 {
            return Err(format!("{name} does not ascend: {bucket:?}"));
        }
        last = (bound, bucket.value);
    }
    let is_whole = last.0 == f64::INFINITY && last.1.to_bits() == count.value.to_bits();
    if is_whole && sum.name.ends_with("_sum") && count.name.ends_with("_count") {
        return Ok(());
    }
    Err(format!("{name} does not end in +Inf, sum and count"))
}

fn sample(line: &str) -> Result<ReadSample, String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    check_name(name)?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("a label has no value")?;
            check_label(label)?;
            let end = closing_quote(after).ok_or("a label's value does not end")?;
            let value = unescape(&after[..end], true)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err("a label twice".to_owned());
            }
            rest = &after[end + 1..];
            match rest.as_bytes().first() {
                Some(b',') => rest = &rest[1..],
                Some(b'}') => break,
                _ => return Err("labels are not separated".to_owned()),
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    Ok(ReadSample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            text.parse().map_err(|_| format!("not a number: {text}"))
        }
        _ => Err(format!("not a number: {text}")),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let starts_right = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if starts_right && name.bytes().all(is_right) {
        return Ok(());
    }
    Err("not a name")
}

fn check_label(name: &str) -> Result<(), &'static str> {
    if name.contains(':') || name.starts_with("__") {
        return Err("not the name of a label");
    }
    check_name(name)
}

fn unescape(text: &str, is_quoted: bool) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if is_quoted => '"',
                _ => return Err("a wrong escape"),
            },
            other => other,
        });
    }
    Ok(out)
}
