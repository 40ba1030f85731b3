//! The signature of a TorchScript model, and the inputs that fit it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Datatype, InputFault, Pointer, Tensor, TensorData};

/// What a model takes, in the order of its `forward`, and what it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Arguments of `forward`.
    pub inputs: Vec<InputSpec>,
    /// Results, in order. Empty: whatever comes out is named `output_0`, `output_1`, …
    pub outputs: Vec<OutputSpec>,
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Its name in requests.
    pub name: String,
    /// The element type, of a tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datatype: Option<Datatype>,
    /// The shape, of a tensor; −1: any size. The first dimension is the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// The type, of an argument that is no tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<ScalarKind>,
    /// Of a scalar: used when a request does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Scalar>,
}

/// The type of a scalar argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalarKind {
    /// A 64-bit integer.
    Int,
    /// A 64-bit float.
    Float,
    /// True or false.
    Bool,
}

/// A scalar argument.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A 64-bit float.
    Float(f64),
}

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Its name in results.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The shape; −1: any size.
    pub shape: Vec<i64>,
}

/// An argument, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A tensor.
    Tensor(Tensor),
    /// A number or a truth value.
    Scalar(Scalar),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    inputs: Vec<RequestInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestInput {
    name: String,
    datatype: Option<Datatype>,
    shape: Option<Vec<i64>>,
    data: Option<Value>,
    value: Option<Value>,
}

impl Signature {
    /// Checks that each input is either a tensor or a scalar, and that names are unique. Errors: the key and what is
    /// wrong with it.
    pub fn new(inputs: Vec<InputSpec>, outputs: Vec<OutputSpec>) -> Result<Self, (String, String)> {
        for (at, input) in inputs.iter().enumerate() {
            let key = format!("inputs[{at}]");
            if inputs[..at].iter().any(|other| other.name == input.name) {
                return Err((key, format!("the name `{}` is used twice", input.name)));
            }
            match (input.scalar, input.datatype, &input.shape) {
                (Some(kind), None, None) => {
                    if input.default.is_some_and(|default| default.as_kind(kind).is_none()) {
                        return Err((key, "`default` is not of the type that `scalar` names".into()));
                    }
                }
                (None, Some(_), Some(shape)) => {
                    if shape.iter().any(|&size| size < -1) {
                        return Err((key, "`shape` may hold sizes and −1 for any".into()));
                    }
                    if input.default.is_some() {
                        return Err((key, "only a scalar may have a `default`".into()));
                    }
                }
                _ => {
                    return Err((key, "needs either `datatype` and `shape` (a tensor) or `scalar`".into()));
                }
            }
        }
        Ok(Self { inputs, outputs })
    }

    /// Reads a task's input into arguments, in the order of `forward`.
    pub fn arguments(&self, input: &Value) -> Result<Vec<Argument>, InputFault> {
        let request: Request = super::read(input)?;
        let at_inputs = Pointer::root().join("inputs");
        let mut found: Vec<Option<Argument>> = vec![None; self.inputs.len()];
        for (at, given) in request.inputs.iter().enumerate() {
            let pointer = at_inputs.join(at);
            let Some(position) = self.inputs.iter().position(|spec| spec.name == given.name) else {
                let known: Vec<_> = self.inputs.iter().map(|spec| spec.name.as_str()).collect();
                let message =
                    format!("the model has no input `{}`; it has: {}", given.name, known.join(", "));
                return Err(InputFault::new(pointer.join("name"), message));
            };
            if found[position].is_some() {
                return Err(InputFault::new(
                    pointer.join("name"),
                    format!("`{}` is given twice", given.name),
                ));
            }
            found[position] = Some(read_argument(&self.inputs[position], given, &pointer)?);
        }
        let pairs = self.inputs.iter().zip(found);
        pairs
            .map(|(spec, argument)| {
                argument.or_else(|| spec.default_argument()).ok_or_else(|| {
                    InputFault::new(at_inputs.clone(), format!("the input `{}` is missing", spec.name))
                })
            })
            .collect()
    }
}

impl InputSpec {
    fn default_argument(&self) -> Option<Argument> {
        let kind = self.scalar?;
        self.default?.as_kind(kind).map(Argument::Scalar)
    }
}

impl Scalar {
    /// This value as the given type; integers may stand for floats.
    pub fn as_kind(self, kind: ScalarKind) -> Option<Self> {
        match (kind, self) {
            (ScalarKind::Int, Self::Int(_))
            | (ScalarKind::Float, Self::Float(_))
            | (ScalarKind::Bool, Self::Bool(_)) => Some(self),
            (ScalarKind::Float, Self::Int(number)) => Some(Self::Float(number as f64)),
            _ => None,
        }
    }
}

fn read_argument(spec: &InputSpec, given: &RequestInput, pointer: &Pointer) -> Result<Argument, InputFault> {
    match spec.scalar {
        Some(kind) => read_scalar(kind, given, pointer).map(Argument::Scalar),
        None => read_tensor(spec, given, pointer).map(Argument::Tensor),
    }
}

fn read_scalar(kind: ScalarKind, given: &RequestInput, pointer: &Pointer) -> Result<Scalar, InputFault> {
    let (value, pointer) = match (&given.value, &given.data) {
        (Some(value), None) => (value, pointer.join("value")),
        (None, Some(data)) => {
            let elements = data.as_array().filter(|elements| elements.len() == 1);
            let one = elements.and_then(|elements| elements.first());
            let message = "must be one element: the model takes a scalar here";
            (one.ok_or_else(|| InputFault::new(pointer.join("data"), message))?, pointer.join("data").join(0))
        }
        _ => return Err(InputFault::new(pointer.clone(), "needs `value`, or a tensor of one element")),
    };
    let scalar = serde_json::from_value::<Scalar>(value.clone()).ok().and_then(|scalar| scalar.as_kind(kind));
    scalar.ok_or_else(|| {
        let expected = match kind {
            ScalarKind::Int => "a whole number",
            ScalarKind::Float => "a number",
            ScalarKind::Bool => "true or false",
        };
        InputFault::new(pointer, format!("must be {expected}"))
    })
}

fn read_tensor(spec: &InputSpec, given: &RequestInput, pointer: &Pointer) -> Result<Tensor, InputFault> {
    let (Some(expected_type), Some(expected_shape)) = (spec.datatype, &spec.shape) else {
        return Err(InputFault::new(pointer.clone(), "the model's manifest is broken here"));
    };
    if given.value.is_some() {
        return Err(InputFault::new(pointer.join("value"), "is for scalars; the model takes a tensor here"));
    }
    let missing = |name: &str| InputFault::new(pointer.clone(), format!("`{name}` is missing"));
    let datatype = given.datatype.ok_or_else(|| missing("datatype"))?;
    let shape = given.shape.as_ref().ok_or_else(|| missing("shape"))?;
    let data = given.data.as_ref().ok_or_else(|| missing("data"))?;
    if datatype != expected_type {
        let message = format!("is {}, but the model takes {}", datatype.as_str(), expected_type.as_str());
        return Err(InputFault::new(pointer.join("datatype"), message));
    }
    let fits = shape.len() == expected_shape.len()
        && shape.iter().zip(expected_shape).all(|(&size, &expected)| expected == -1 || size == expected);
    if !fits {
        let message = format!("is {shape:?}, but the model takes {expected_shape:?} (−1: any size)");
        return Err(InputFault::new(pointer.join("shape"), message));
    }
    Tensor::read(datatype, shape, data, pointer)
}

/// The number of elements of all tensors: the size of a task, for the forecast.
pub(crate) fn element_count(arguments: &[Argument]) -> u64 {
    let tensors = arguments.iter().map(|argument| match argument {
        Argument::Tensor(Tensor { data, .. }) => TensorData::len(data) as u64,
        Argument::Scalar(_) => 0,
    });
    tensors.sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Manifest, Spec};
    use super::*;

    fn vad() -> Signature {
        let Spec::TorchScript(spec) = Manifest::parse(include_str!("testdata/vad.toml")).unwrap().spec else {
            panic!("a torchscript manifest")
        };
        spec.signature
    }

    fn audio(shape: &[i64], count: usize) -> Value {
        json!({"name": "audio", "datatype": "FP32", "shape": shape, "data": vec![0.5; count]})
    }

    #[test]
    fn takes_what_fits_and_fills_in_defaults() {
        let arguments = vad().arguments(&json!({"inputs": [audio(&[2, 512], 1024)]})).unwrap();
        assert_eq!(arguments[1], Argument::Scalar(Scalar::Int(16000)));
        assert_eq!(element_count(&arguments), 1024);
        let rate = json!({"name": "rate", "value": 8000});
        let arguments = vad().arguments(&json!({"inputs": [rate, audio(&[1, 512], 512)]})).unwrap();
        assert_eq!(arguments[1], Argument::Scalar(Scalar::Int(8000)));
    }

    #[test]
    fn each_fault_points_at_its_field() {
        let wrong_type =
            json!({"name": "audio", "datatype": "FP64", "shape": [1, 512], "data": vec![0.5; 512]});
        let mut with_nan = audio(&[1, 512], 512);
        with_nan["data"][3] = json!("NaN");
        let cases = [
            (json!([]), ""),
            (json!({"inputs": []}), "/inputs"),
            (json!({"inputs": [audio(&[1, 512], 512)], "x": 1}), "/x"),
            (json!({"inputs": [{"name": "sound"}]}), "/inputs/0/name"),
            (json!({"inputs": [wrong_type]}), "/inputs/0/datatype"),
            (json!({"inputs": [audio(&[1, 256], 256)]}), "/inputs/0/shape"),
            (json!({"inputs": [audio(&[-1, 512], 512)]}), "/inputs/0/shape/0"),
            (json!({"inputs": [audio(&[i64::MAX, 512], 512)]}), "/inputs/0/shape"),
            (json!({"inputs": [audio(&[1, 512], 511)]}), "/inputs/0/data"),
            (json!({"inputs": [with_nan]}), "/inputs/0/data/3"),
            (json!({"inputs": [audio(&[1, 512], 512), {"name": "rate", "value": 1.5}]}), "/inputs/1/value"),
            (json!({"inputs": [audio(&[1, 512], 512), audio(&[1, 512], 512)]}), "/inputs/1/name"),
        ];
        for (input, pointer) in cases {
            let fault = vad().arguments(&input).unwrap_err();
            assert_eq!(fault.pointer.as_str(), pointer, "{fault}");
        }
    }
}
