//! Long texts, stored as compressed bytes.
//!
//! One byte says how the rest is stored: 0 as it is, 1 a zstd frame, 2 an lz4 block after its original length (four
//! bytes, little endian), 3 a gzip stream. Reading goes by that byte, so a model may change its algorithm.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{Read, Write};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;
const GZIP: u8 = 3;

thread_local! {
    /// The bytes that this thread has decompressed.
    static DECOMPRESSED: Cell<usize> = const { Cell::new(0) };
}

/// The encoded bytes of `data`: compressed, unless it is shorter than `min_size` or would not shrink below `threshold`.
#[pyfunction]
pub fn compress<'py>(
    py: Python<'py>,
    data: &[u8],
    algorithm: &str,
    level: Option<i32>,
    min_size: usize,
    threshold: f64,
) -> PyResult<Bound<'py, PyBytes>> {
    let tag = match algorithm {
        "zstd" => ZSTD,
        "lz4" => LZ4,
        "gzip" => GZIP,
        other => {
            return Err(PyValueError::new_err(format!(
                "there is no algorithm {other:?}"
            )));
        }
    };
    if data.len() >= min_size {
        let packed = py.detach(|| packed(tag, data, level))?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "a share of a length needs no exactness"
        )]
        if (packed.len() as f64) < data.len() as f64 * threshold {
            return Ok(PyBytes::new(py, &packed));
        }
    }
    PyBytes::new_with(py, data.len() + 1, |bytes| {
        bytes[0] = PLAIN;
        bytes[1..].copy_from_slice(data);
        Ok(())
    })
}

fn packed(tag: u8, data: &[u8], level: Option<i32>) -> std::io::Result<Vec<u8>> {
    let mut out = vec![tag];
    match tag {
        ZSTD => out.extend(zstd::bulk::compress(
            data,
            level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL),
        )?),
        LZ4 => out.extend(lz4_flex::block::compress_prepend_size(data)),
        _ => {
            let level = level.map_or_else(flate2::Compression::default, |level| {
                flate2::Compression::new(u32::try_from(level).unwrap_or(6))
            });
            let mut encoder = flate2::write::GzEncoder::new(&mut out, level);
            encoder.write_all(data)?;
            encoder.finish()?;
        }
    }
    Ok(out)
}

/// What `compress` was given, which may have at most `max_size` bytes.
#[pyfunction]
pub fn decompress<'py>(
    py: Python<'py>,
    stored: &[u8],
    max_size: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let Some((tag, rest)) = stored.split_first() else {
        return Err(PyValueError::new_err("compressed text cannot be empty"));
    };
    let data = py
        .detach(|| unpacked(*tag, rest, max_size))
        .map_err(PyValueError::new_err)?;
    DECOMPRESSED.set(DECOMPRESSED.get().wrapping_add(data.len()));
    Ok(PyBytes::new(py, &data))
}

/// The bytes that this thread has decompressed so far.
#[pyfunction]
pub fn decompressed() -> usize {
    DECOMPRESSED.get()
}

fn unpacked(tag: u8, rest: &[u8], max_size: usize) -> Result<Cow<'_, [u8]>, String> {
    let too_long = || {
        format!(
            "the text is longer than max_size={max_size} bytes: give the attribute a greater max_size= to read it"
        )
    };
    let bounded = |reader: &mut dyn Read| {
        let mut data = Vec::new();
        reader
            .take((max_size as u64).saturating_add(1))
            .read_to_end(&mut data)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(data)
    };
    let data: Cow<'_, [u8]> = match tag {
        PLAIN => rest.into(),
        ZSTD => {
            let decoder = zstd::stream::read::Decoder::new(rest);
            bounded(&mut decoder.map_err(|error| error.to_string())?)?.into()
        }
        LZ4 => {
            let (size, block) =
                lz4_flex::block::uncompressed_size(rest).map_err(|error| error.to_string())?;
            if size > max_size {
                return Err(too_long());
            }
            let data = lz4_flex::block::decompress(block, size);
            data.map_err(|error| error.to_string())?.into()
        }
        GZIP => bounded(&mut flate2::read::GzDecoder::new(rest))?.into(),
        other => return Err(format!("{other} is not a known form of compressed text")),
    };
    if data.len() > max_size {
        return Err(too_long());
    }
    Ok(data)
}
