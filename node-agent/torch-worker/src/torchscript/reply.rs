//! What a module gave, as it is sent back.

use serde::{Serialize, Serializer};
use springtide_core::model::{Datatype, OutputSpec};
use springtide_worker_protocol::{ByteRange, Output};
use tch::{Kind, Tensor};

use super::values;
use crate::Failure;

/// The most bytes of JSON that travel inline.
const INLINE_BYTES: usize = 64 << 10;

/// An output and the body that it points into.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) output: Output,
    pub(super) body: Vec<u8>,
}

#[derive(Serialize)]
struct Document<'a> {
    outputs: &'a [Entry],
}

/// A tensor in the KServe V2 form.
#[derive(Serialize)]
struct Entry {
    name: String,
    datatype: &'static str,
    shape: Vec<i64>,
    data: Data,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Bools(Vec<bool>),
    Integers(Vec<i64>),
    Singles(Vec<Single>),
    Doubles(Vec<Double>),
}

/// Numbers that JSON lacks are written as protocol buffers write them.
struct Single(f32);
struct Double(f64);

fn nameless(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

impl Serialize for Single {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f32(self.0)
        } else {
            serializer.serialize_str(nameless(self.0.into()))
        }
    }
}

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(nameless(self.0))
        }
    }
}

impl Reply {
    /// Names the outputs and checks them against the manifest, if that names any.
    pub(super) fn new(
        specs: &[OutputSpec],
        outputs: Vec<values::Named>,
        file: &str,
    ) -> Result<Self, Failure> {
        let entries = if specs.is_empty() {
            let named = outputs.into_iter().enumerate();
            let named =
                named.map(|(at, (name, tensor))| (name.unwrap_or_else(|| format!("output_{at}")), tensor));
            named.map(|(name, tensor)| Entry::new(name, &tensor, file)).collect::<Result<Vec<_>, _>>()?
        } else {
            expected(specs, outputs, file)?
        };
        let failed = |error| Failure::device(format!("the outputs cannot be written: {error}"));
        let body = serde_json::to_vec(&Document { outputs: &entries }).map_err(failed)?;
        if body.len() > INLINE_BYTES {
            let range = ByteRange { offset: 0, len: body.len() as u64 };
            let output = Output::Blob { media_type: "application/json".into(), seed: None, body: range };
            return Ok(Self { output, body });
        }
        let values = entries
            .iter()
            .map(|entry| serde_json::to_string(entry).and_then(|json| serde_json::from_str(&json)));
        let outputs = values.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { output: Output::Tensors { outputs }, body: Vec::new() })
    }
}

fn expected(
    specs: &[OutputSpec],
    mut outputs: Vec<values::Named>,
    file: &str,
) -> Result<Vec<Entry>, Failure> {
    if outputs.len() != specs.len() {
        let (found, expected) = (outputs.len(), specs.len());
        return Err(Failure::model(format!(
            "{file} gives {found} tensors, but model.toml names {expected} outputs"
        )));
    }
    let by_name = outputs.iter().all(|(name, _)| name.is_some());
    let mut entries = Vec::with_capacity(specs.len());
    for spec in specs {
        let at = if by_name {
            let at = outputs.iter().position(|(name, _)| name.as_ref() == Some(&spec.name));
            at.ok_or_else(|| {
                Failure::model(format!("{file} gives no output `{}`, which model.toml names", spec.name))
            })?
        } else {
            0
        };
        let entry = Entry::new(spec.name.clone(), &outputs.remove(at).1, file)?;
        let fits = entry.shape.len() == spec.shape.len()
            && entry
                .shape
                .iter()
                .zip(&spec.shape)
                .all(|(&size, &expected)| expected == -1 || size == expected);
        if entry.datatype != spec.datatype.as_str() || !fits {
            let Entry { datatype, shape, .. } = &entry;
            return Err(Failure::model(format!(
                "{file} gives `{}` as {datatype} {shape:?}, but model.toml says {} {:?}",
                spec.name,
                spec.datatype.as_str(),
                spec.shape
            )));
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Entry {
    fn new(name: String, tensor: &Tensor, file: &str) -> Result<Self, Failure> {
        let failed = |error| Failure::torch(file, &error);
        let flat = tensor.flatten(0, -1);
        let datatype = match tensor.kind() {
            // KServe V2 has no name for it; fp32 holds all its values.
            Kind::BFloat16 => Datatype::Fp32,
            found => {
                let known = ALL.into_iter().find(|&datatype| values::kind(datatype) == found);
                known.ok_or_else(|| {
                    Failure::model(format!("{file} gives `{name}` with elements of type {found:?}"))
                })?
            }
        };
        let data = match datatype {
            Datatype::Bool => Data::Bools(Vec::try_from(flat).map_err(failed)?),
            Datatype::Fp64 => {
                let numbers = Vec::<f64>::try_from(flat).map_err(failed)?;
                Data::Doubles(numbers.into_iter().map(Double).collect())
            }
            Datatype::Fp16 | Datatype::Fp32 => {
                let numbers = Vec::<f32>::try_from(flat.to_kind(Kind::Float)).map_err(failed)?;
                Data::Singles(numbers.into_iter().map(Single).collect())
            }
            _ => Data::Integers(Vec::try_from(flat.to_kind(Kind::Int64)).map_err(failed)?),
        };
        Ok(Self { name, datatype: datatype.as_str(), shape: tensor.size(), data })
    }
}

const ALL: [Datatype; 9] = [
    Datatype::Bool,
    Datatype::Uint8,
    Datatype::Int8,
    Datatype::Int16,
    Datatype::Int32,
    Datatype::Int64,
    Datatype::Fp16,
    Datatype::Fp32,
    Datatype::Fp64,
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn inline(specs: &[OutputSpec], outputs: Vec<values::Named>) -> Value {
        match Reply::new(specs, outputs, "m.pt").unwrap().output {
            Output::Tensors { outputs } => outputs.into(),
            Output::Blob { .. } => panic!("small tensors are inline"),
        }
    }

    #[test]
    fn every_datatype_is_written_in_its_own_form() {
        let floats = Tensor::from_slice(&[0.1_f32, f32::NAN, f32::NEG_INFINITY]);
        let outputs = vec![
            (None, floats.shallow_clone()),
            (None, floats.to_kind(Kind::Half).narrow(0, 1, 2)),
            (None, Tensor::from_slice(&[true, false])),
            (None, Tensor::from_slice(&[250_u8])),
            (None, Tensor::from_slice(&[i64::MIN]).view([1, 1])),
            (Some("named".into()), Tensor::from_slice(&[0.1_f64])),
            (None, Tensor::from_slice(&[1.5_f32]).to_kind(Kind::BFloat16)),
        ];
        let expected = json!([
            {"name": "output_0", "datatype": "FP32", "shape": [3], "data": [0.1, "NaN", "-Infinity"]},
            {"name": "output_1", "datatype": "FP16", "shape": [2], "data": ["NaN", "-Infinity"]},
            {"name": "output_2", "datatype": "BOOL", "shape": [2], "data": [true, false]},
            {"name": "output_3", "datatype": "UINT8", "shape": [1], "data": [250]},
            {"name": "output_4", "datatype": "INT64", "shape": [1, 1], "data": [i64::MIN]},
            {"name": "named", "datatype": "FP64", "shape": [1], "data": [0.1]},
            {"name": "output_6", "datatype": "FP32", "shape": [1], "data": [1.5]},
        ]);
        assert_eq!(inline(&[], outputs), expected);
    }

    #[test]
    fn large_tensors_travel_as_a_blob() {
        let zeros = Tensor::zeros([20_000], (Kind::Float, tch::Device::Cpu));
        let reply = Reply::new(&[], vec![(None, zeros)], "m.pt").unwrap();
        let Output::Blob { media_type, body, .. } = reply.output else { panic!("a blob") };
        let document: Value = serde_json::from_slice(body.of(&reply.body).unwrap()).unwrap();
        assert_eq!(media_type, "application/json");
        assert_eq!(document["outputs"][0]["data"].as_array().unwrap().len(), 20_000);
    }

    #[test]
    fn outputs_are_held_to_the_manifest() {
        let spec = |name: &str, shape: &[i64]| OutputSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
        };
        let one = || Tensor::from_slice(&[1.0_f32]).view([1, 1]);
        let two = || one() * 2.0;
        // By name where there are names, in order where there are none.
        let specs = [spec("b", &[-1, 1]), spec("a", &[-1, 1])];
        let named = inline(&specs, vec![(Some("a".into()), one()), (Some("b".into()), two())]);
        assert_eq!((&named[0]["name"], &named[0]["data"]), (&json!("b"), &json!([2.0])));
        let ordered = inline(&specs, vec![(None, one()), (None, two())]);
        assert_eq!((&ordered[0]["name"], &ordered[0]["data"]), (&json!("b"), &json!([1.0])));

        let refused = |specs: &[OutputSpec], tensor: Tensor| {
            Reply::new(specs, vec![(None, tensor)], "m.pt").unwrap_err().to_string()
        };
        assert_eq!(refused(&specs, one()), "m.pt gives 1 tensors, but model.toml names 2 outputs");
        let message = refused(&specs[..1], one().to_kind(Kind::Double));
        assert_eq!(message, "m.pt gives `b` as FP64 [1, 1], but model.toml says FP32 [-1, 1]");
        assert!(refused(&[spec("b", &[-1, 2])], one()).contains("[1, 1]"));
    }
}
