//! The parts that fuzzing drives directly.

pub use crate::transport::http::{InvalidRequest, NotHttp, Request, Response, ResponseParser};
