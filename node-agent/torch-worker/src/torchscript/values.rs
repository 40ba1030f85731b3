//! Between arguments as they are sent and values as libtorch takes them.

use springtide_core::model::{Argument, Datatype, Scalar, TensorData};
use tch::{Device, IValue, Kind, TchError, Tensor};

use crate::Failure;

/// A tensor that came out, and its name if it had one.
pub(super) type Named = (Option<String>, Tensor);

/// libtorch's name for an element type.
pub(super) const fn kind(datatype: Datatype) -> Kind {
    match datatype {
        Datatype::Bool => Kind::Bool,
        Datatype::Uint8 => Kind::Uint8,
        Datatype::Int8 => Kind::Int8,
        Datatype::Int16 => Kind::Int16,
        Datatype::Int32 => Kind::Int,
        Datatype::Int64 => Kind::Int64,
        Datatype::Fp16 => Kind::Half,
        Datatype::Fp32 => Kind::Float,
        Datatype::Fp64 => Kind::Double,
    }
}

/// The size of the first dimension that all tensors have in common.
pub(super) fn rows(arguments: &[Argument]) -> Option<i64> {
    let mut firsts = arguments.iter().filter_map(|argument| match argument {
        Argument::Tensor(tensor) => Some(tensor.shape.first().copied()),
        Argument::Scalar(_) => None,
    });
    let first = firsts.next()??;
    firsts.all(|other| other == Some(first)).then_some(first)
}

/// Whether two tasks can run in one call: equal scalars, and shapes that agree but for the first dimension.
pub(super) fn join(one: &[Argument], other: &[Argument]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (Argument::Tensor(a), Argument::Tensor(b)) => {
                a.datatype == b.datatype && a.shape.get(1..) == b.shape.get(1..)
            }
            (Argument::Scalar(a), Argument::Scalar(b)) => a == b,
            _ => false,
        })
}

/// The argument at a position, of one member or of several along the first dimension.
pub(super) fn joined(members: &[&Vec<Argument>], at: usize, device: Device) -> Result<IValue, TchError> {
    let mut tensors = Vec::with_capacity(members.len());
    for member in members {
        match &member[at] {
            Argument::Scalar(Scalar::Int(number)) => return Ok(IValue::Int(*number)),
            Argument::Scalar(Scalar::Float(number)) => return Ok(IValue::Double(*number)),
            Argument::Scalar(Scalar::Bool(truth)) => return Ok(IValue::Bool(*truth)),
            Argument::Tensor(tensor) => {
                let flat = match &tensor.data {
                    TensorData::Bools(data) => Tensor::f_from_slice(data),
                    TensorData::Integers(data) => Tensor::f_from_slice(data),
                    TensorData::Floats(data) => Tensor::f_from_slice(data),
                }?;
                tensors.push(flat.f_to_kind(kind(tensor.datatype))?.f_reshape(tensor.shape.as_slice())?);
            }
        }
    }
    let whole = match tensors.len() {
        1 => tensors.remove(0),
        _ => Tensor::f_cat(&tensors, 0)?,
    };
    Ok(IValue::Tensor(whole.f_to_device(device)?))
}

/// The tensors in what a module gave, on the CPU: a tensor, numbers, or lists, tuples and dictionaries of them (whose
/// keys are then their names).
pub(super) fn tensors(value: IValue, file: &str) -> Result<Vec<Named>, Failure> {
    let mut found = Vec::new();
    collect(value, None, &mut found).map_err(|unknown| {
        Failure::model(format!("{file} gives {unknown}; only tensors, numbers, and lists, tuples and dictionaries of them are understood"))
    })?;
    let to_cpu = |(name, tensor): Named| {
        let tensor = tensor.f_to_device(Device::Cpu).and_then(|tensor| tensor.f_contiguous());
        tensor.map(|tensor| (name, tensor)).map_err(|error| Failure::torch(file, &error))
    };
    found.into_iter().map(to_cpu).collect()
}

fn collect(value: IValue, name: Option<String>, found: &mut Vec<Named>) -> Result<(), &'static str> {
    match value {
        IValue::Tensor(tensor) => found.push((name, tensor)),
        IValue::Int(number) => found.push((name, Tensor::from(number))),
        IValue::Double(number) => found.push((name, Tensor::from(number))),
        IValue::Bool(truth) => found.push((name, Tensor::from(truth))),
        IValue::TensorList(tensors) => found.extend(tensors.into_iter().map(|tensor| (None, tensor))),
        IValue::IntList(numbers) => found.push((name, Tensor::from_slice(&numbers))),
        IValue::DoubleList(numbers) => found.push((name, Tensor::from_slice(&numbers))),
        IValue::BoolList(truths) => found.push((name, Tensor::from_slice(&truths))),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            for value in values {
                collect(value, None, found)?;
            }
        }
        IValue::GenericDict(pairs) => {
            for (key, value) in pairs {
                let IValue::String(key) = key else { return Err("a dictionary whose keys are no strings") };
                collect(value, Some(key), found)?;
            }
        }
        IValue::None => return Err("None"),
        IValue::String(_) | IValue::StringList(_) => return Err("text"),
        _ => return Err("an object"),
    }
    Ok(())
}

/// Gives each member its rows of each output; nothing if an output has not a row for each row of the inputs.
pub(super) fn split(outputs: &[Named], rows: &[i64]) -> Option<Vec<Vec<Named>>> {
    let total: i64 = rows.iter().sum();
    if outputs.iter().any(|(_, tensor)| tensor.size().first() != Some(&total)) {
        return None;
    }
    let mut first = 0;
    let parts = rows.iter().map(|&count| {
        let rows = |tensor: &Tensor| tensor.narrow(0, first, count).contiguous();
        let part = outputs.iter().map(|(name, tensor)| (name.clone(), rows(tensor))).collect();
        first += count;
        part
    });
    Some(parts.collect())
}
