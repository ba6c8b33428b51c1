/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - what guards the state of the extension: the GIL, and where Python has none, a lock that is
 * used as the GIL would be. Every call from outside has it (KVI_PY_LOCKED and the like below), and it is
 * given up wherever the GIL would be: around what sleeps, and by the interpreter while a thread waits for
 * something else. So what is said of the GIL in these files holds for both.
 *
 * There is one for the module, not one an engine: a process has one engine, and nothing is held longer
 * than it takes to start a transfer. Unlike the GIL it is not given up to others while Python code runs
 * on and on, so callbacks are called without it (kvi_py_pause).
 *
 * A reference that is counted nowhere (borrowed) is good until the lock is given up, where a table or an
 * object that is alive holds it. Where what it points to may be just going away in another thread, it is
 * a weak one.
 */
#ifndef KVI_PYTHON_LOCK_H
#define KVI_PYTHON_LOCK_H

#include <Python.h>

#ifdef Py_GIL_DISABLED

/* Somebody's hold of the lock; on the stack. */
struct kvi_py_section {
	PyCriticalSection hold;
	PyObject *owner; /* whose lock it is: the module */
	struct kvi_py_section *outer;
};

/* Take the lock of the module that type is of. */
void kvi_py_lock(struct kvi_py_section *section, PyTypeObject *type);
void kvi_py_unlock(struct kvi_py_section *section);

/* Give up the lock that this thread took last, and take it again. */
struct kvi_py_section *kvi_py_pause(void);
void kvi_py_resume(struct kvi_py_section *section);

#else

struct kvi_py_section {
	char unused;
};

static inline void kvi_py_lock(struct kvi_py_section *section, PyTypeObject *type)
{
	(void)section;
	(void)type;
}

static inline void kvi_py_unlock(struct kvi_py_section *section)
{
	(void)section;
}

static inline struct kvi_py_section *kvi_py_pause(void)
{
	return NULL;
}

static inline void kvi_py_resume(struct kvi_py_section *section)
{
	(void)section;
}

#endif

#if PY_VERSION_HEX < 0x030D0000
/* As later versions have it: 1 and a new reference, or 0 and NULL. */
static inline int PyWeakref_GetRef(PyObject *reference, PyObject **object)
{
	PyObject *borrowed = PyWeakref_GetObject(reference);

	*object = borrowed == Py_None ? NULL : Py_NewRef(borrowed);
	return *object != NULL;
}
#endif

/* function_locked: function with the lock held, for a table of methods or attributes. */
#define KVI_PY_LOCKED(function)                                                                    \
	static PyObject *function##_locked(PyObject *self, PyObject *arg)                          \
	{                                                                                          \
		struct kvi_py_section section;                                                     \
		kvi_py_lock(&section, Py_TYPE(self));                                              \
		PyObject *result = function(self, arg);                                            \
		kvi_py_unlock(&section);                                                           \
		return result;                                                                     \
	}

#define KVI_PY_LOCKED_KEYWORDS(function)                                                           \
	static PyObject *function##_locked(PyObject *self, PyObject *args, PyObject *kwargs)       \
	{                                                                                          \
		struct kvi_py_section section;                                                     \
		kvi_py_lock(&section, Py_TYPE(self));                                              \
		PyObject *result = function(self, args, kwargs);                                   \
		kvi_py_unlock(&section);                                                           \
		return result;                                                                     \
	}

#define KVI_PY_LOCKED_GETTER(function)                                                             \
	static PyObject *function##_locked(PyObject *self, void *closure)                          \
	{                                                                                          \
		struct kvi_py_section section;                                                     \
		kvi_py_lock(&section, Py_TYPE(self));                                              \
		PyObject *result = function(self, closure);                                        \
		kvi_py_unlock(&section);                                                           \
		return result;                                                                     \
	}

#define KVI_PY_LOCKED_REPR(function)                                                               \
	static PyObject *function##_locked(PyObject *self)                                         \
	{                                                                                          \
		struct kvi_py_section section;                                                     \
		kvi_py_lock(&section, Py_TYPE(self));                                              \
		PyObject *result = function(self);                                                 \
		kvi_py_unlock(&section);                                                           \
		return result;                                                                     \
	}

#endif
