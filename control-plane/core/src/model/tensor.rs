//! Tensors in the form of the KServe V2 inference protocol (<https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{InputFault, Pointer};

/// Element types, by their KServe V2 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// True or false.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 binary16.
    Fp16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
}

impl Datatype {
    /// Its KServe V2 name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
        }
    }

    /// The least and the greatest value of an integer type.
    const fn integer_range(self) -> Option<(i64, i64)> {
        match self {
            Self::Uint8 => Some((0, u8::MAX as i64)),
            Self::Int8 => Some((i8::MIN as i64, i8::MAX as i64)),
            Self::Int16 => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::Int32 => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::Int64 => Some((i64::MIN, i64::MAX)),
            Self::Bool | Self::Fp16 | Self::Fp32 | Self::Fp64 => None,
        }
    }

    /// The greatest finite value of a floating-point type.
    const fn float_max(self) -> f64 {
        match self {
            Self::Fp16 => 65504.0,
            Self::Fp32 => f32::MAX as f64,
            _ => f64::MAX,
        }
    }
}

/// A tensor as it is sent: `{"name", "datatype", "shape", "data"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The element type.
    pub datatype: Datatype,
    /// The sizes of its dimensions.
    pub shape: Vec<i64>,
    /// Its elements, row by row; as many as the product of the shape.
    pub data: TensorData,
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Of `BOOL`.
    Bools(Vec<bool>),
    /// Of the integer types, within their range.
    Integers(Vec<i64>),
    /// Of the floating-point types, finite.
    Floats(Vec<f64>),
}

impl TensorData {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bools(data) => data.len(),
            Self::Integers(data) => data.len(),
            Self::Floats(data) => data.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The most elements of one tensor: 1 GiB of FP32.
const MAX_ELEMENTS: i64 = 1 << 28;

impl Tensor {
    /// Reads the elements of a tensor, flat or nested; `pointer` is where the tensor stands in the input.
    pub fn read(
        datatype: Datatype,
        shape: &[i64],
        data: &Value,
        pointer: &Pointer,
    ) -> Result<Self, InputFault> {
        let at_shape = pointer.join("shape");
        if let Some(index) = shape.iter().position(|&size| size < 0) {
            let message = format!("is {}; a size can't be negative", shape[index]);
            return Err(InputFault::new(at_shape.join(index), message));
        }
        let count = shape.iter().try_fold(1_i64, |product, &size| product.checked_mul(size));
        let Some(count) = count.filter(|&count| count <= MAX_ELEMENTS) else {
            return Err(InputFault::new(at_shape, format!("has more than {MAX_ELEMENTS} elements")));
        };
        let mut values = Vec::new();
        let at_data = pointer.join("data");
        flatten(data, &at_data, &mut values)?;
        if i64::try_from(values.len()) != Ok(count) {
            let message = format!("has {} elements, but shape {shape:?} needs {count}", values.len());
            return Err(InputFault::new(at_data, message));
        }
        let data = read_elements(datatype, &values, &at_data)?;
        Ok(Self { datatype, shape: shape.to_vec(), data })
    }
}

fn flatten<'a>(data: &'a Value, pointer: &Pointer, into: &mut Vec<&'a Value>) -> Result<(), InputFault> {
    let Value::Array(elements) = data else {
        return Err(InputFault::new(pointer.clone(), "must be an array of elements, flat or nested"));
    };
    for (index, element) in elements.iter().enumerate() {
        if element.is_array() {
            flatten(element, &pointer.join(index), into)?;
        } else {
            into.push(element);
        }
    }
    Ok(())
}

fn all<T>(
    values: &[&Value],
    read: impl Fn(&Value) -> Option<T>,
    wrong: impl Fn(usize) -> InputFault,
) -> Result<Vec<T>, InputFault> {
    values.iter().enumerate().map(|(at, value)| read(value).ok_or_else(|| wrong(at))).collect()
}

fn read_elements(datatype: Datatype, values: &[&Value], pointer: &Pointer) -> Result<TensorData, InputFault> {
    let wrong = |index: usize| {
        let found: String = values[index].to_string().chars().take(40).collect();
        InputFault::new(pointer.join(index), format!("{found} is not a finite {} value", datatype.as_str()))
    };
    if datatype == Datatype::Bool {
        return all(values, Value::as_bool, wrong).map(TensorData::Bools);
    }
    if let Some((least, greatest)) = datatype.integer_range() {
        let read = |value: &Value| value.as_i64().filter(|number| (least..=greatest).contains(number));
        return all(values, read, wrong).map(TensorData::Integers);
    }
    let greatest = datatype.float_max();
    all(values, |value| value.as_f64().filter(|number| number.abs() <= greatest), wrong)
        .map(TensorData::Floats)
}
