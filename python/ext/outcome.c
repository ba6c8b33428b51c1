/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outcome.c - waiting for transfers and turning their outcome into values and exceptions: for the
 * classic calls at once, for the others on behalf of transfer.c. It starts nothing.
 *
 * An outcome is made in two steps. Reading it may run Python code, so another thread may come in
 * between and read it too; that is harmless, since reading changes nothing. Taking the data and
 * storing the value runs no Python code, so exactly one thread does it.
 */
#include "ext.h"

#include <stdio.h>

int kvi_py_wait_for(struct kvt_transfer *handle, int64_t timeout_ns)
{
	if (kvt_transfer_is_done(handle))
		return 1;
	int64_t start = kvi_py_get_now();
	for (;;) {
		int64_t slice = kvi_py_get_slice(timeout_ns, start);
		PyThreadState *thread = PyEval_SaveThread();
		enum kvt_err err = kvt_transfer_wait(handle, slice);
		PyEval_RestoreThread(thread);
		/* config.interrupted, which the library calls while it waits, may have raised. */
		if (PyErr_Occurred())
			return -1;
		if (err != KVT_E_AGAIN)
			return 1;
		if (PyErr_CheckSignals() < 0)
			return -1;
		if (slice == KVT_NOWAIT)
			return 0;
	}
}

/* ---- outcomes ---- */

int kvi_py_read_outcome(struct kvt_transfer *handle, enum kvi_py_kind kind,
			struct kvi_py_outcome *outcome)
{
	struct kvt_result result = KVT_RESULT_INIT;

	outcome->error.code = kvt_transfer_get_result(handle, &result);
	if (outcome->error.code != KVT_OK) {
		outcome->error.text[0] = '\0';
		outcome->error.provider_errno = 0;
		return 0;
	}
	outcome->error.code = result.err;
	outcome->error.provider_errno = result.provider_errno;
	if (result.err != KVT_OK)
		snprintf(outcome->error.text, sizeof(outcome->error.text), "%s", result.text);
	outcome->len = result.len;
	outcome->description.dtype = NULL;
	if (result.err != KVT_OK || kind != KVI_PY_RECV)
		return 0;
	int readable = kvi_py_read_description(result.meta, result.meta_len, result.len,
					       &outcome->description, outcome->error.text);
	if (readable == 0)
		outcome->error.code = KVT_E_UNSUPPORTED;
	return readable < 0 ? -1 : 0;
}

PyObject *kvi_py_take_value(struct kvt_transfer *handle, enum kvi_py_kind kind,
			    struct kvi_py_outcome *outcome)
{
	switch (kind) {
	case KVI_PY_SEND:
		return Py_NewRef(Py_True);
	case KVI_PY_RECV_INTO:
	case KVI_PY_WRITE:
	case KVI_PY_READ:
	case KVI_PY_NOTIFY:
		return PyLong_FromSize_t(outcome->len);
	case KVI_PY_RECV:
	case KVI_PY_CONNECT: /* transfer.c makes these, for their engine and connection */
	case KVI_PY_IMPORT:
		break;
	}
	return kvi_py_adopt_array(&outcome->description, kvt_transfer_take_data(handle));
}

void kvi_py_end_call(struct kvt_transfer *handle, Py_buffer *view)
{
	if (handle != NULL && kvt_transfer_is_done(handle)) {
		kvt_transfer_free(handle);
	} else if (handle != NULL) {
		PyThreadState *thread = kvi_py_begin_close();
		kvt_transfer_free(handle);
		kvi_py_end_close(thread);
	}
	PyBuffer_Release(view);
}

int kvi_py_finish(struct kvi_py_call *call, PyObject **value)
{
	struct kvi_py_outcome outcome = { .error = call->error };
	int finished = -1;

	if (call->handle != NULL) {
		if (kvi_py_wait_for(call->handle, KVT_FOREVER) < 0 ||
		    kvi_py_read_outcome(call->handle, call->kind, &outcome) < 0)
			goto out_call;
	}
	if (outcome.error.code != KVT_OK) {
		finished = kvi_py_note_failure(call->engine, &outcome.error, outcome.len);
		goto out_call;
	}
	*value = kvi_py_take_value(call->handle, call->kind, &outcome);
	finished = *value == NULL ? -1 : 1;
out_call:
	kvi_py_end_call(call->handle, &call->view);
	return finished;
}
