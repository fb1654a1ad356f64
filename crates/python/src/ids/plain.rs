//! The plain functions: `ulid()`, `uuid7()`, … as Python calls them.
//!
//! They are called without pyo3's wrapper, which would add a tenth of the cost of an id. A function that gets
//! parameters calls its slower version, which pyo3 wraps. (The slower version is not its `self`: pickle and Django
//! would take a function with a `self` for a method.)
#![allow(
    unsafe_code,
    reason = "functions that Python calls and strings that it gives; each block says why it is sound"
)]

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use mintkey_ids::engine::Session;
use mintkey_ids::minter::SNOWFLAKE_EPOCH;
use mintkey_ids::{
    CUID2_LENGTH, Kind, NANOID_ALPHABET, NANOID_SIZE, NodeChoice, Parameters, Reading, Refusal,
    Strategy,
};
use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString};

use crate::exception::exception;
use crate::ids::arguments;
use crate::ids::objects::{ascii, fixed};
use crate::ids::step::{report_step_back, step};

/// Runs a function for Python: a new reference, or null with the exception set.
#[inline]
fn enter(work: impl FnOnce(Python<'_>) -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    // SAFETY: only functions that Python calls come here, and it calls them attached.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| work(py))) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            error.restore(py);
            null_mut()
        }
        Err(_) => {
            PyRuntimeError::new_err("generating an id failed unexpectedly: please report it")
                .restore(py);
            null_mut()
        }
    }
}

fn int(value: i64) -> *mut ffi::PyObject {
    // SAFETY: called attached; both give a new reference, or null with the exception set.
    unsafe {
        match u64::try_from(value) {
            Ok(value) => ffi::PyLong_FromUnsignedLongLong(value),
            Err(_) => ffi::PyLong_FromLongLong(value),
        }
    }
}

type Text<'py> = PyResult<Bound<'py, PyString>>;

/// Mints with one reading of the clock, and reports a step back of the clock.
#[inline]
fn timed<T>(
    py: Python<'_>,
    mut mint: impl FnMut(&mut Session<'_>, Reading) -> Result<T, Box<Refusal>>,
) -> PyResult<T> {
    let minted = step(py, |session| {
        let reading = session.minter.read();
        mint(session, reading)
    })?;
    report_step_back(py)?;
    Ok(minted)
}

fn uuid4(py: Python<'_>) -> Text<'_> {
    let bits = step(py, |session| Ok(session.minter.uuid4()))?;
    fixed(py, |out| mintkey_ids::write_uuid(bits, out))
}

fn uuid7(py: Python<'_>) -> Text<'_> {
    let bits = timed(py, |session, reading| session.minter.uuid7(reading))?;
    fixed(py, |out| mintkey_ids::write_uuid(bits, out))
}

fn ulid(py: Python<'_>) -> Text<'_> {
    let bits = timed(py, |session, reading| session.minter.ulid(reading))?;
    fixed(py, |out| mintkey_ids::write_ulid(bits, out))
}

fn ksuid(py: Python<'_>) -> Text<'_> {
    let (time, payload) = timed(py, |session, reading| session.minter.ksuid(reading))?;
    fixed(py, |out| mintkey_ids::write_ksuid(time, payload, out))
}

fn xid(py: Python<'_>) -> Text<'_> {
    let bits = timed(py, |session, reading| session.minter.xid(reading))?;
    fixed(py, |out| mintkey_ids::write_xid(bits, out))
}

fn snowflake(py: Python<'_>) -> PyResult<i64> {
    timed(py, |session, reading| {
        session.snowflake(reading, SNOWFLAKE_EPOCH, NodeChoice::Default)
    })
}

fn iso8601(py: Python<'_>) -> Text<'_> {
    let now = mintkey_ids::now();
    fixed(py, |out| mintkey_ids::write_iso8601(now.seconds(), out))
}

fn iso8601_ms(py: Python<'_>) -> Text<'_> {
    let ms = mintkey_ids::now_ms();
    fixed(py, |out| mintkey_ids::write_iso8601_ms(ms, out))
}

fn plain_nanoid(py: Python<'_>) -> Text<'_> {
    // Filled in place: returned words would be read in pairs before they are stored.
    let mut words = [0; 4];
    step(py, |session| {
        for word in &mut words[..3] {
            *word = session.minter.word();
        }
        Ok(())
    })?;
    fixed::<{ NANOID_SIZE as usize }>(py, |out| {
        mintkey_ids::write_nanoid(&words, NANOID_ALPHABET.as_bytes(), out);
    })
}

fn plain_cuid2(py: Python<'_>) -> Text<'_> {
    let mut words = [0; 4];
    step(py, |session| {
        for word in &mut words {
            *word = session.minter.word();
        }
        Ok(())
    })?;
    fixed::<{ CUID2_LENGTH as usize }>(py, |out| mintkey_ids::write_cuid2(&words, out))
}

fn plain_typeid(py: Python<'_>) -> Text<'_> {
    let bits = timed(py, |session, reading| session.minter.uuid7(reading))?;
    fixed(py, |out| mintkey_ids::write_typeid(bits, out))
}

#[pyfunction]
#[pyo3(name = "nanoid", signature = (size=None, alphabet=None))]
fn nanoid_of<'py>(
    py: Python<'py>,
    size: Option<&Bound<'py, PyAny>>,
    alphabet: Option<&Bound<'py, PyAny>>,
) -> Text<'py> {
    let size = size.map(|size| arguments::int("size", size)).transpose()?;
    let alphabet = alphabet
        .map(|alphabet| arguments::text("alphabet", alphabet))
        .transpose()?;
    let parameters = Parameters {
        size,
        alphabet: alphabet.as_deref(),
        ..Parameters::default()
    };
    of_parameters(py, Kind::Nanoid, &parameters)
}

#[pyfunction]
#[pyo3(name = "cuid2", signature = (length=None))]
fn cuid2_of<'py>(py: Python<'py>, length: Option<&Bound<'py, PyAny>>) -> Text<'py> {
    let length = length
        .map(|length| arguments::int("length", length))
        .transpose()?;
    let parameters = Parameters {
        length,
        ..Parameters::default()
    };
    of_parameters(py, Kind::Cuid2, &parameters)
}

#[pyfunction]
#[pyo3(name = "typeid")]
fn typeid_of<'py>(py: Python<'py>, prefix: &Bound<'py, PyAny>) -> Text<'py> {
    let prefix = arguments::text("prefix", prefix)?;
    let prefix = prefix.as_str();
    mintkey_ids::check_prefix(Kind::Typeid, prefix)
        .map_err(|wrong| exception(py, "ConfigurationError", &wrong.0))?;
    if prefix.is_empty() {
        return plain_typeid(py);
    }
    let bits = timed(py, |session, reading| session.minter.uuid7(reading))?;
    let ahead = prefix.len() + 1;
    ascii(py, ahead + 26, |out| {
        let (before, body) = out.split_at_mut(ahead);
        if let Some((separator, before)) = before.split_last_mut() {
            before.copy_from_slice(prefix.as_bytes());
            *separator = b'_';
        }
        if let Some((body, _)) = body.split_first_chunk_mut() {
            mintkey_ids::write_typeid(bits, body);
        }
    })
}

fn of_parameters<'py>(py: Python<'py>, kind: Kind, parameters: &Parameters<'_>) -> Text<'py> {
    let strategy = Strategy::new(kind, parameters)
        .map_err(|wrong| exception(py, "ConfigurationError", &wrong.0))?;
    let draft = step(py, |session| {
        let reading = session.minter.read();
        session.mint(&strategy, reading, None)
    })?;
    ascii(py, strategy.body_len(), |out| {
        strategy.write_body(&draft, out);
    })
}

/// A definition that Python only reads.
struct Definition(ffi::PyMethodDef);

// SAFETY: the pointers in it are to constants, and nothing writes to them.
unsafe impl Sync for Definition {}

/// Functions without parameters.
macro_rules! without_parameters {
    ($($name:ident: $doc:literal, $work:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) unsafe extern "C" fn call(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
                    enter($work)
                }
            }
        )*

        static WITHOUT_PARAMETERS: &[Definition] = &[$(Definition(ffi::PyMethodDef {
            ml_name: name(concat!(stringify!($name), "\0")),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: $name::call },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: name(concat!(stringify!($name), "()\n--\n\n", $doc, "\0")),
        })),*];
    };
}

/// Functions that take parameters, but are mostly called without.
macro_rules! with_parameters {
    ($($name:ident: $index:literal, $signature:literal, $doc:literal, $work:expr;)*) => {
        $(
            mod $name {
                use super::*;

                pub(super) unsafe extern "C" fn call(
                    _: *mut ffi::PyObject,
                    arguments: *const *mut ffi::PyObject,
                    count: ffi::Py_ssize_t,
                    names: *mut ffi::PyObject,
                ) -> *mut ffi::PyObject {
                    if count == 0 && names.is_null() {
                        return enter($work);
                    }
                    enter(|py| {
                        let function = WITH_ARGUMENTS.get(py).map_or(null_mut(), |functions| functions[$index].as_ptr());
                        // SAFETY: the arguments are those that Python gave; the functions were made with the module.
                        Ok(unsafe { ffi::PyObject_Vectorcall(function, arguments, count.cast_unsigned(), names) })
                    })
                }
            }
        )*

        static WITH_PARAMETERS: &[Definition] = &[$(Definition(ffi::PyMethodDef {
            ml_name: name(concat!(stringify!($name), "\0")),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: $name::call },
            ml_flags: KEYWORDS,
            ml_doc: name(concat!(stringify!($name), "(", $signature, ")\n--\n\n", $doc, "\0")),
        })),*];
    };
}

/// The slower versions of the functions with parameters, in the same order.
static WITH_ARGUMENTS: PyOnceLock<[Py<PyCFunction>; 3]> = PyOnceLock::new();

const KEYWORDS: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

const fn name(text: &'static str) -> *const std::ffi::c_char {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text.as_ptr(),
        Err(_) => panic!("a name ends with its only NUL"),
    }
}

without_parameters! {
    uuid4: "A version 4 UUID as 36 characters (RFC 9562, 5.4).",
        |py| crate::ids::plain::uuid4(py).map(Bound::into_ptr);
    uuid7: "A version 7 UUID as 36 characters that sort by time (RFC 9562, 5.7).",
        |py| crate::ids::plain::uuid7(py).map(Bound::into_ptr);
    ulid: "A ULID: 26 upper-case characters that sort by time (ulid/spec).",
        |py| crate::ids::plain::ulid(py).map(Bound::into_ptr);
    ksuid: "A KSUID: 27 characters that sort by time in seconds (segmentio/ksuid).",
        |py| crate::ids::plain::ksuid(py).map(Bound::into_ptr);
    xid: "An XID: 20 characters that sort by time in seconds (rs/xid).",
        |py| crate::ids::plain::xid(py).map(Bound::into_ptr);
    snowflake: "A snowflake of this process's node: an int of 63 bits that sorts by time.",
        |py| crate::ids::plain::snowflake(py).map(int);
    epoch: "Seconds since the Unix epoch.",
        |_| Ok(int(mintkey_ids::now().seconds()));
    epoch_ms: "Milliseconds since the Unix epoch.",
        |_| Ok(int(mintkey_ids::now_ms()));
    iso8601: "The time in UTC as 2024-01-01T00:00:00Z.",
        |py| crate::ids::plain::iso8601(py).map(Bound::into_ptr);
    iso8601_ms: "The time in UTC as 2024-01-01T00:00:00.123Z.",
        |py| crate::ids::plain::iso8601_ms(py).map(Bound::into_ptr);
}

with_parameters! {
    nanoid: 0, "size=None, alphabet=None",
        "A nanoid: size characters (21) of alphabet (letters, digits, - and _), unguessable.",
        |py| crate::ids::plain::plain_nanoid(py).map(Bound::into_ptr);
    cuid2: 1, "length=None",
        "A CUID2 of length characters (24; 2 to 32): a letter, then letters and digits, unguessable.",
        |py| crate::ids::plain::plain_cuid2(py).map(Bound::into_ptr);
    typeid: 2, "prefix=''",
        "A TypeID: the prefix as its type, an underscore and 26 characters that sort by time.",
        |py| crate::ids::plain::plain_typeid(py).map(Bound::into_ptr);
}

/// Adds the plain functions to the module.
///
/// Their module is `mintkey.generators`, from where they are imported: a Django migration or a pickle looks for them
/// there.
///
/// # Errors
/// `ImportError` in a subinterpreter: there is one engine in a process, and subinterpreters may have
/// a lock each.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // SAFETY: called attached, so there is a current interpreter.
    if unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } != 0 {
        return Err(PyImportError::new_err(
            "mintkey cannot be used in a subinterpreter; import it in the main interpreter \
             (under mod_wsgi: WSGIApplicationGroup %{GLOBAL})",
        ));
    }
    let home = PyString::new(py, "mintkey.generators");
    WITH_ARGUMENTS.get_or_try_init(py, || {
        PyResult::Ok([
            wrap_pyfunction!(nanoid_of, module)?.unbind(),
            wrap_pyfunction!(cuid2_of, module)?.unbind(),
            wrap_pyfunction!(typeid_of, module)?.unbind(),
        ])
    })?;
    let add = |definition: &'static Definition| -> PyResult<()> {
        // SAFETY: the definition lives as long as the process and is not written to; Python takes its
        // own reference to the name.
        let function = unsafe {
            let definition = (&raw const definition.0).cast_mut();
            Bound::from_owned_ptr_or_err(
                py,
                ffi::PyCFunction_NewEx(definition, null_mut(), home.as_ptr()),
            )?
        };
        let name = function.getattr("__name__")?.cast_into::<PyString>()?;
        module.setattr(name, function)
    };
    // It lists only the names that pyo3 added.
    module.delattr("__all__")?;
    WITHOUT_PARAMETERS
        .iter()
        .chain(WITH_PARAMETERS)
        .try_for_each(add)
}
