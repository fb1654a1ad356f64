//! `InstanceSlots`, the base of `Model`: two slots of an instance beside its values.
//!
//! They read as None until they are set. Slots that a class of Python declares raise `AttributeError` instead, and each
//! save would read several: to make and drop the exception takes five times as long as to read a slot.
//!
//! Also here: the two ways in which instances are made, from a call of the model and from a stored item.
#![allow(
    unsafe_code,
    reason = "a type with fields of its own, without pyo3's constructor, which every new instance would call; each block \
              says why it is sound"
)]

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{addr_of_mut, null_mut};

use pyo3::Borrowed;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi::{self, PyObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

/// The memory of an instance. What a subclass adds, such as the dict, comes after it.
#[repr(C)]
struct InstanceSlots {
    head: PyObject,
    /// The state, once there is more to record than the item.
    kept: *mut PyObject,
    /// The item as it was last read or written.
    stored: *mut PyObject,
}

/// Returns the object in a slot, or None. `offset` is where the slot is in the instance.
unsafe extern "C" fn get(instance: *mut PyObject, offset: *mut c_void) -> *mut PyObject {
    // SAFETY: Python calls it attached, checks that the instance is one of the type that has this descriptor, and passes
    // the offset that the descriptor was made with. The slot holds a reference of its own, or null, and no other thread
    // changes it here, also not in a Python without a GIL.
    unsafe {
        let own = Borrowed::from_ptr(Python::assume_attached(), instance);
        with_critical_section(&own, || {
            let held = *slot(instance, offset);
            ffi::Py_NewRef(if held.is_null() { ffi::Py_None() } else { held })
        })
    }
}

/// Sets a slot.
unsafe extern "C" fn set(
    instance: *mut PyObject,
    value: *mut PyObject,
    offset: *mut c_void,
) -> c_int {
    // SAFETY: Python calls it attached.
    let py = unsafe { Python::assume_attached() };
    if value.is_null() {
        PyAttributeError::new_err("the state of an instance cannot be deleted").restore(py);
        return -1;
    }
    // SAFETY: as in `get`. The old object is dropped last, because that may run code which reads the slot.
    unsafe {
        let own = Borrowed::from_ptr(py, instance);
        let old = with_critical_section(&own, || {
            std::ptr::replace(slot(instance, offset), ffi::Py_NewRef(value))
        });
        ffi::Py_XDECREF(old);
    }
    0
}

unsafe fn slot(instance: *mut PyObject, offset: *mut c_void) -> *mut *mut PyObject {
    // SAFETY: the callers pass an instance of the type, and the offset of one of its two slots.
    unsafe { instance.byte_add(offset as usize).cast() }
}

unsafe extern "C" fn traverse(
    instance: *mut PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the garbage collector passes an instance of the type. It visits each reference that the instance owns,
    // also that to its type, as instances of types on the heap must.
    unsafe {
        let own = instance.cast::<InstanceSlots>();
        for held in [(*own).kept, (*own).stored, ffi::Py_TYPE(instance).cast()] {
            if !held.is_null() {
                let stop = visit(held, argument);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn clear(instance: *mut PyObject) -> c_int {
    // SAFETY: an instance of the type; `Py_CLEAR` sets a slot to null before it drops the reference.
    unsafe {
        let own = instance.cast::<InstanceSlots>();
        ffi::Py_CLEAR(addr_of_mut!((*own).kept));
        ffi::Py_CLEAR(addr_of_mut!((*own).stored));
    }
    0
}

unsafe extern "C" fn dealloc(instance: *mut PyObject) {
    // SAFETY: Python calls it once, for an instance that nothing refers to. An instance owns a reference to its type.
    unsafe {
        ffi::PyObject_GC_UnTrack(instance.cast());
        clear(instance);
        let kind = ffi::Py_TYPE(instance);
        if let Some(free) = (*kind).tp_free {
            free(instance.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// Adds the type to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let descriptor = |name: &'static std::ffi::CStr, offset: usize| ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: Some(set),
        doc: std::ptr::null(),
        closure: offset as *mut c_void,
    };
    // The descriptors refer to these for the life of the process.
    let descriptors = Box::leak(Box::new([
        descriptor(c"_kept", offset_of!(InstanceSlots, kept)),
        descriptor(c"_stored", offset_of!(InstanceSlots, stored)),
        ffi::PyGetSetDef::default(),
    ]));
    let part = |slot, pfunc| ffi::PyType_Slot { slot, pfunc };
    let mut parts = [
        part(ffi::Py_tp_getset, descriptors.as_mut_ptr().cast()),
        part(ffi::Py_tp_traverse, traverse as *mut c_void),
        part(ffi::Py_tp_clear, clear as *mut c_void),
        part(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        ffi::PyType_Slot::default(),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"mintkey._core.InstanceSlots".as_ptr(),
        basicsize: c_int::try_from(size_of::<InstanceSlots>())?,
        itemsize: 0,
        flags: u32::try_from(
            ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC,
        )?,
        slots: parts.as_mut_ptr(),
    };
    // SAFETY: the spec describes `InstanceSlots`, whose functions are above; Python copies it. New instances are filled
    // with zeros, so that both slots are null.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    module.add("InstanceSlots", made)?;
    module.add_function(wrap_pyfunction!(call_init_directly, module)?)
}

/// Lets calls of a model pass their arguments to `__init__` as they are. Subclasses do not inherit it.
///
/// `type.__call__` collects the keywords of each call in a dict, which `__init__` then takes apart again. That takes as
/// long as the rest of the construction. Python itself ignores this if a metaclass has a `__call__` of its own.
#[pyfunction]
fn call_init_directly(model: &Bound<'_, PyType>) {
    // SAFETY: attached, with a live class. `construct` does what `type.__call__` does, also if the methods of the class
    // are replaced later, and Python asks no more of the function in this field.
    unsafe { (*model.as_type_ptr()).tp_vectorcall = Some(construct) }
}

/// Makes an instance in a call of its class.
unsafe extern "C" fn construct(
    class: *mut PyObject,
    arguments: *const *mut PyObject,
    flagged: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: Python calls it attached, with the class. `arguments` are those by position, whose number is in `flagged`,
    // and then one for each of the `names`, a tuple or null. With the flag, the entry before the first argument is the
    // callee's until it returns. `tp_new` and the call of `__init__` return a new reference, or null with the exception set.
    unsafe {
        let py = Python::assume_attached();
        let count = ffi::PyVectorcall_NARGS(flagged).unsigned_abs();
        let kind = class.cast::<ffi::PyTypeObject>();
        let object = &raw const ffi::PyBaseObject_Type;
        // A `__new__` gets the arguments too. A `__getattribute__` must not see that `__init__` is looked up.
        let plain = (*kind).tp_new.map(|new| new as usize)
            == (*object).tp_new.map(|new| new as usize)
            && (*kind).tp_getattro.map(|get| get as usize)
                == (*object).tp_getattro.map(|get| get as usize);
        let is_flagged = flagged != count;
        let Some(new) = (*kind).tp_new.filter(|_| plain && is_flagged) else {
            return call_type(py, class, arguments, count, names).unwrap_or_else(|error| {
                error.restore(py);
                null_mut()
            });
        };
        let instance = new(kind, PyTuple::empty(py).as_ptr(), null_mut());
        if instance.is_null() {
            return null_mut();
        }
        let first = arguments.cast_mut().sub(1);
        let entry = std::ptr::replace(first, instance);
        let init = intern!(py, "__init__").as_ptr();
        let result = ffi::PyObject_VectorcallMethod(init, first, count + 1, names);
        *first = entry;
        if result == ffi::Py_None() {
            ffi::Py_DECREF(result);
            return instance;
        }
        if !result.is_null() {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"__init__() should return None, not '%.200s'".as_ptr(),
                (*ffi::Py_TYPE(result)).tp_name,
            );
            ffi::Py_DECREF(result);
        }
        ffi::Py_DECREF(instance);
        null_mut()
    }
}

/// Calls a class through `type.__call__`.
unsafe fn call_type(
    py: Python<'_>,
    class: *mut PyObject,
    arguments: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> PyResult<*mut PyObject> {
    // SAFETY: as in `construct`.
    unsafe {
        let argument = |index| Bound::from_borrowed_ptr(py, *arguments.add(index));
        let positional = PyTuple::new(py, (0..count).map(argument))?;
        let keywords = PyDict::new(py);
        if let Some(names) = Bound::from_borrowed_ptr_or_opt(py, names) {
            for (index, name) in names.cast_into::<PyTuple>()?.iter().enumerate() {
                keywords.set_item(name, argument(count + index))?;
            }
        }
        let call = ffi::PyType_Type.tp_call;
        let call = call.ok_or_else(|| PyTypeError::new_err("no call of types"))?;
        Ok(call(class, positional.as_ptr(), keywords.as_ptr()))
    }
}

/// A new instance of a model with these values, as it was stored. No constructor runs.
pub fn loaded<'py>(
    model: &Bound<'py, PyType>,
    values: &Bound<'py, PyDict>,
    item: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = model.py();
    let arguments = PyTuple::empty(py);
    let set =
        |instance: &Bound<'py, PyAny>, name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>| {
            // SAFETY: attached, with three live objects. It sets the attribute as `object.__setattr__` does, and not as the
            // model's own `__setattr__`, which records changes.
            let failed = unsafe {
                ffi::PyObject_GenericSetAttr(instance.as_ptr(), name.as_ptr(), value.as_ptr())
            };
            if failed == 0 {
                Ok(())
            } else {
                Err(PyErr::fetch(py))
            }
        };
    // SAFETY: attached. Each type that `type` has made has a `tp_new`, which takes the type, a tuple and null for no
    // keywords, and returns a new reference, or null with the exception set.
    let instance = unsafe {
        let kind = model.as_type_ptr();
        let new = (*kind)
            .tp_new
            .ok_or_else(|| PyTypeError::new_err("no model"))?;
        Bound::from_owned_ptr_or_err(py, new(kind, arguments.as_ptr(), null_mut()))?
    };
    set(&instance, intern!(py, "_stored"), item)?;
    set(&instance, intern!(py, "__dict__"), values)?;
    Ok(instance)
}
