//! New Python objects that are written in place: strings of ids, and lists of them.
//!
//! No other code sees one before it is complete: a string is local, and a list is hidden from the garbage collector,
//! through which other threads could find it.
#![allow(
    unsafe_code,
    reason = "the one way to strings and lists without a second copy; each block says why it is sound"
)]

use mintkey_ids::engine::Session;
use mintkey_ids::{Reading, Refusal};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::ids::step::step;

/// A new `str` of `len` ASCII characters that `write` fills; it must write ASCII to all of them.
#[inline]
pub(super) fn ascii(
    py: Python<'_>,
    len: usize,
    write: impl FnOnce(&mut [u8]),
) -> PyResult<Bound<'_, PyString>> {
    let size = len.try_into()?;
    // SAFETY: `PyUnicode_New` gives a new reference or null with an exception set, which is what
    // `from_owned_ptr_or_err` takes; the object is an exact `str`.
    let text = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(size, 127))?
            .cast_into_unchecked::<PyString>()
    };
    // SAFETY: a fresh compact ASCII str has `len` bytes of its own at its data pointer and no
    // other code has seen it yet; they are set to zero before a slice of them exists.
    unsafe {
        let data = ffi::PyUnicode_1BYTE_DATA(text.as_ptr());
        data.write_bytes(0, len);
        write(std::slice::from_raw_parts_mut(data, len));
    }
    Ok(text)
}

/// [`ascii`] of a length known to the compiler.
#[inline]
pub(super) fn fixed<const LEN: usize>(
    py: Python<'_>,
    write: impl FnOnce(&mut [u8; LEN]),
) -> PyResult<Bound<'_, PyString>> {
    ascii(py, LEN, |out| {
        if let Some((out, _)) = out.split_first_chunk_mut() {
            write(out);
        }
    })
}

/// Values that are generated under one lock of the engine.
const RUN: usize = 128;

/// A list of `n` values: generated in runs under the lock, converted to objects outside it.
///
/// A run may have to wait, and other threads run meanwhile. So the collector, whose `get_objects()` lists what it
/// tracks, learns of the list only when all its items are set.
#[inline]
pub(super) fn many<'py, T: Copy>(
    py: Python<'py>,
    n: usize,
    blank: T,
    draw: impl Fn(&mut Session<'_>, Reading) -> Result<T, Box<Refusal>>,
    make: impl Fn(&T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let size = n.try_into()?;
    // SAFETY: `PyList_New` gives a new reference, or null with the exception set; a new list is tracked, and nothing
    // has run since that could have found it. A list that is dropped untracked is freed as any other.
    let values = unsafe {
        let values = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(size))?;
        ffi::PyObject_GC_UnTrack(values.as_ptr().cast());
        values.cast_into_unchecked::<PyList>()
    };
    let mut drawn = [blank; RUN];
    let mut left = n;
    while left > 0 {
        let run = left.min(RUN);
        let mut done = 0;
        step(py, |session| {
            let reading = session.minter.read();
            for slot in &mut drawn[done..run] {
                *slot = draw(session, reading)?;
                done += 1;
            }
            Ok(())
        })?;
        for (at, slot) in (n - left..).zip(&drawn[..run]) {
            let value = make(slot)?.into_ptr();
            // SAFETY: the list has n items, the one at `at` is not set yet; it takes the reference.
            unsafe { ffi::PyList_SET_ITEM(values.as_ptr(), at.cast_signed(), value) };
        }
        left -= run;
    }
    // SAFETY: all items are set, and the list is not tracked.
    unsafe { ffi::PyObject_GC_Track(values.as_ptr().cast()) };
    Ok(values)
}
