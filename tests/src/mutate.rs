//! Messages that are wrong in every way, made from ones that are right. All chance comes from a seed.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

/// A text of this size is large for any field; one in some hundred messages has it.
const LARGE_TEXT: usize = 1 << 20;
/// Numbers that no field is made for, and that sums and conversions stumble over.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "0.5",
    "65536",
    "4000000000",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e19",
    "1e300",
    "-1e300",
    "1e-300",
];
/// What looks like a number and is none, or none that can be held.
const NO_NUMBERS: &[&str] =
    &["NaN", "Infinity", "1e999", "-", "00", "0x10", "1.", "99999999999999999999999999", "+1", "1_000"];
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "../../etc/passwd",
    "cpu",
    "gpu-9000",
    "echo@1",
    "echo@2",
    "9999-12-31T23:59:59.999999Z",
    "-009999-01-02T01:59:59.000000Z",
    "1970-01-01T00:00:00.000000Z",
    "job_00000000000000000000000000/4294967295",
    "run_7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "inc_7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "inc_00000000000000000000000000",
    "succeeded",
    "\u{1f30a}\u{202e}\u{feff}",
];

/// Makes messages wrong.
#[derive(Debug)]
pub struct Mutator(Xoshiro256PlusPlus);

impl Mutator {
    /// What it makes follows from the seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One of `valid`, made wrong: in its values, in its bytes, or in both. A few come out as they went in, or right in
    /// another way: whoever counts looks again.
    pub fn message(&mut self, valid: &[Value]) -> Vec<u8> {
        let mut value = valid[self.below(valid.len())].clone();
        match self.below(20) {
            0..=10 => {
                for _ in 0..=self.below(3) {
                    self.change(&mut value);
                }
                value.to_string().into_bytes()
            }
            11..=17 => {
                let mut bytes = value.to_string().into_bytes();
                self.damage(&mut bytes);
                bytes
            }
            18 => {
                self.change(&mut value);
                let mut bytes = value.to_string().into_bytes();
                self.damage(&mut bytes);
                bytes
            }
            _ => match self.below(5) {
                0 => Vec::new(),
                1 => b" \n".to_vec(),
                2 => self.scalar().to_string().into_bytes(),
                3 => format!("{value}{value}").into_bytes(),
                _ => format!("[{value}]").into_bytes(),
            },
        }
    }

    /// Puts something else in one place of a value.
    fn change(&mut self, value: &mut Value) {
        let place = self.below(count(value));
        let Some(place) = nth(value, place) else { return };
        match (self.below(8), place) {
            (0, Value::Object(members)) => drop(self.take_member(members)),
            (1, Value::Object(members)) => {
                if let Some((key, member)) = self.take_member(members) {
                    members.insert(format!("{key}s"), member);
                }
            }
            (2, Value::Object(members)) => {
                members.insert("unknown".into(), self.scalar());
            }
            (0, Value::Array(elements)) => elements.clear(),
            (1, Value::Array(elements)) => elements.extend(elements.clone()),
            (2, Value::Array(elements)) => elements.push(self.scalar()),
            (0..=3, Value::String(text)) if !text.is_empty() => *text = self.misspell(text),
            (_, place) => *place = self.nonsense(),
        }
    }

    fn take_member(&mut self, members: &mut Map<String, Value>) -> Option<(String, Value)> {
        let key = members.keys().nth(self.below(members.len().max(1)))?.clone();
        members.remove(&key).map(|member| (key, member))
    }

    /// Another character in one place: most ids stay ids, of something else.
    fn misspell(&mut self, text: &str) -> String {
        let at = self.below(text.chars().count());
        let other = self.pick(&['0', '7', 'A', 'Z', '/', '@', '-', 'é']);
        text.chars().enumerate().map(|(index, c)| if index == at { other } else { c }).collect()
    }

    fn scalar(&mut self) -> Value {
        match self.below(6) {
            0 => Value::Null,
            1 => Value::Bool(true),
            2 => json!(self.pick(TEXTS)),
            3 => json!("x".repeat(self.below(5000))),
            _ => serde_json::from_str(self.pick(NUMBERS)).unwrap_or_default(),
        }
    }

    fn nonsense(&mut self) -> Value {
        match self.below(200) {
            0 => json!("x".repeat(LARGE_TEXT)),
            1 => Value::Array(vec![json!(0); 20_000]),
            2..=20 => json!([]),
            21..=40 => json!({}),
            41..=60 => {
                let depth = self.pick(&[3, 60, 120, 127, 128, 500]);
                (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
            }
            _ => self.scalar(),
        }
    }

    /// Breaks the text.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len().max(1)).min(bytes.len());
        match self.below(8) {
            0 | 1 => bytes.truncate(at),
            2 | 3 => {
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            4 => drop(bytes.splice(at..at, [0xff, 0xc0, 0x80])),
            5 => {
                let end = (at + self.below(40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            6 => repeat_member(bytes),
            _ => self.misnumber(bytes),
        }
    }

    /// Something else instead of one number.
    fn misnumber(&mut self, bytes: &mut Vec<u8>) {
        let starts: Vec<usize> = (1..bytes.len())
            .filter(|&at| matches!(bytes[at - 1], b':' | b',' | b'[') && bytes[at].is_ascii_digit())
            .collect();
        if starts.is_empty() {
            return;
        }
        let start = self.pick(&starts);
        let length =
            bytes[start..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e')).count();
        let instead = if self.below(2) == 0 { self.pick(NUMBERS) } else { self.pick(NO_NUMBERS) };
        drop(bytes.splice(start..start + length, instead.bytes()));
    }
}

/// A member twice: the first one of the outermost object.
fn repeat_member(bytes: &mut Vec<u8>) {
    let end = bytes.iter().position(|byte| *byte == b',').unwrap_or(0);
    if let Some(member) = bytes.get(1..=end).map(<[u8]>::to_vec) {
        drop(bytes.splice(1..1, member));
    }
}

/// How many places a value has: itself and all in it.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(elements) => elements.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The place of this number, counted as [`count`] does.
fn nth(value: &mut Value, number: usize) -> Option<&mut Value> {
    if number == 0 {
        return Some(value);
    }
    let mut left = number - 1;
    let inner: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(elements) => Box::new(elements.iter_mut()),
        Value::Object(members) => Box::new(members.values_mut()),
        _ => return None,
    };
    for member in inner {
        let places = count(member);
        if left < places {
            return nth(member, left);
        }
        left -= places;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_messages_and_most_are_broken() {
        let valid = [json!({"v": 1, "id": "job_7", "list": [1, 2.5, {"deep": true}], "text": "x"})];
        let make = || {
            let mut mutator = Mutator::seeded(7);
            (0..1000).map(|_| mutator.message(&valid)).collect::<Vec<_>>()
        };
        let messages = make();
        assert_eq!(messages, make());
        let as_json: Vec<Value> =
            messages.iter().filter_map(|body| serde_json::from_slice(body).ok()).collect();
        assert!((300..800).contains(&as_json.len()), "{} are JSON still", as_json.len());
        let same = as_json.iter().filter(|value| **value == valid[0]).count();
        assert!(same < 100, "{same} are as they were");
    }

    #[test]
    fn every_place_is_reached() {
        let mut value = json!({"a": [1, {"b": 2}], "c": "x"});
        assert_eq!(count(&value), 6);
        for number in 0..6 {
            assert!(nth(&mut value, number).is_some(), "{number}");
        }
        assert!(nth(&mut value, 6).is_none());
    }
}
