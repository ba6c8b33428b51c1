/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - see lock.h. Empty where Python has a GIL.
 */
#include "lock.h"

#ifdef Py_GIL_DISABLED

/* What this thread took last and has not paused. */
static _Thread_local struct kvi_py_section *innermost;

static void hold(struct kvi_py_section *section)
{
	PyCriticalSection_Begin(&section->hold, section->owner);
	innermost = section;
}

void kvi_py_lock(struct kvi_py_section *section, PyTypeObject *type)
{
	PyObject *module = ((PyHeapTypeObject *)type)->ht_module;

	/* While the interpreter ends, a type may have lost its module; there is one thread then. */
	section->owner = module != NULL ? module : (PyObject *)type;
	section->outer = innermost;
	hold(section);
}

void kvi_py_unlock(struct kvi_py_section *section)
{
	innermost = section->outer;
	PyCriticalSection_End(&section->hold);
}

struct kvi_py_section *kvi_py_pause(void)
{
	struct kvi_py_section *section = innermost;

	innermost = NULL;
	if (section != NULL)
		PyCriticalSection_End(&section->hold);
	return section;
}

void kvi_py_resume(struct kvi_py_section *section)
{
	if (section != NULL)
		hold(section);
}

#endif
