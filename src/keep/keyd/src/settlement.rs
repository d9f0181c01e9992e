//! The bulk path: records in, provisional verdicts out, a receipt at the end. Memory stays the same whatever the length.

mod f1;
mod intake;
mod pump;
mod shape;

pub(crate) use self::f1::F1;
pub(crate) use self::intake::{Intake, read_header};
pub(crate) use self::pump::{Pump, Step, Stop};
pub(crate) use self::shape::Shape;
