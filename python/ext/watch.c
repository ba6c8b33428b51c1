/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - how a program learns that an engine has something to tell: a descriptor, a wait, a
 * listener. What it is, dispatch.c knows.
 *
 * The descriptor of fileno() is an epoll set of the library's own and of one that is readable while
 * something waits in our tables, so it is readable whichever thread took things in.
 */
#include "ext.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the descriptor ---- */

void kvi_py_sync_ready(struct kvi_py_dispatch *dispatch)
{
	bool is_ready =
		PyDict_GET_SIZE(dispatch->finished) > 0 || PyList_GET_SIZE(dispatch->notes) > 0 ||
		PyList_GET_SIZE(dispatch->arrivals) > 0 || PyList_GET_SIZE(dispatch->ends) > 0;

	if (dispatch->ready_fd < 0 || is_ready == dispatch->is_ready)
		return;
	/* Neither can fail: the counter of an eventfd goes between 0 and 1 here. */
	if (is_ready)
		(void)eventfd_write(dispatch->ready_fd, 1);
	else
		(void)eventfd_read(dispatch->ready_fd, &(eventfd_t){ 0 });
	dispatch->is_ready = is_ready;
}

static int open_fds(struct kvi_py_engine *engine)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	int fds[2] = { kvt_engine_get_fd(engine->handle), -1 };
	int poll_fd = epoll_create1(EPOLL_CLOEXEC);

	fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poll_fd < 0 || fds[1] < 0)
		goto err_fds;
	for (int i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = fds[i] };
		if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fds[i], &event) < 0)
			goto err_fds;
	}
	dispatch->poll_fd = poll_fd;
	dispatch->ready_fd = fds[1];
	kvi_py_sync_ready(dispatch);
	return 0;

err_fds:
	PyErr_SetFromErrno(PyExc_OSError);
	if (fds[1] >= 0)
		(void)close(fds[1]);
	if (poll_fd >= 0)
		(void)close(poll_fd);
	return -1;
}

void kvi_py_close_fds(struct kvi_py_dispatch *dispatch)
{
	int *fds[] = { &dispatch->poll_fd, &dispatch->ready_fd };

	for (size_t i = 0; i < 2; i++) {
		if (*fds[i] >= 0)
			(void)close(*fds[i]);
		*fds[i] = -1;
	}
}

PyObject *kvi_py_fileno(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)args;
	if (kvi_py_check_open(engine) < 0 || (engine->dispatch.poll_fd < 0 && open_fds(engine) < 0))
		return NULL;
	return PyLong_FromLong(engine->dispatch.poll_fd);
}

PyObject *kvi_py_dup_fd(PyObject *self, PyObject *args)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	(void)args;
	if (kvi_py_check_open(engine) < 0)
		return NULL;
	int fd = fcntl(kvt_engine_get_fd(engine->handle), F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

/* ---- listeners ---- */

PyObject *kvi_py_add_listener(PyObject *self, PyObject *listener)
{
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;

	if (kvi_py_check_open(engine) < 0 ||
	    PyList_Append(engine->dispatch.listeners, listener) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *kvi_py_remove_listener(PyObject *self, PyObject *listener)
{
	PyObject *listeners = ((struct kvi_py_engine *)self)->dispatch.listeners;

	for (Py_ssize_t i = 0; i < PyList_GET_SIZE(listeners); i++) {
		if (PyList_GET_ITEM(listeners, i) == listener)
			return PyList_SetSlice(listeners, i, i + 1, NULL) < 0 ? NULL
									      : Py_NewRef(Py_None);
	}
	Py_RETURN_NONE;
}

void kvi_py_tell_listeners(struct kvi_py_engine *engine)
{
	PyObject *listeners = PyList_AsTuple(engine->dispatch.listeners);

	if (listeners == NULL)
		PyErr_WriteUnraisable((PyObject *)engine);
	for (Py_ssize_t i = 0; listeners != NULL && i < PyTuple_GET_SIZE(listeners); i++)
		kvi_py_call_back(PyTuple_GET_ITEM(listeners, i), NULL);
	Py_XDECREF(listeners);
}

/* ---- waiting ---- */

/* 1 when something has happened, 0 when the time passed first, -1 with an exception. */
static int wait_for_something(struct kvi_py_engine *engine, int64_t timeout_ns)
{
	struct kvi_py_dispatch *dispatch = &engine->dispatch;
	int64_t start = kvi_py_get_now();

	for (;;) {
		Py_ssize_t total = kvi_py_take_in(engine);
		if (total != 0)
			return total < 0 ? -1 : 1;
		if (PyDict_GET_SIZE(dispatch->finished) > 0 ||
		    PyList_GET_SIZE(dispatch->notes) > 0 || PyList_GET_SIZE(dispatch->arrivals) > 0)
			return 1;
		/* It ends for what another thread took in, too. */
		int64_t slice = kvi_py_get_slice(timeout_ns, start);
		if (slice == KVT_NOWAIT)
			return 0;
		PyThreadState *thread = PyEval_SaveThread();
		enum kvt_err err = kvt_engine_wait(engine->handle, slice);
		PyEval_RestoreThread(thread);
		if (PyErr_Occurred() || PyErr_CheckSignals() < 0)
			return -1;
		if (engine->closed)
			err = KVT_E_CLOSED;
		if (err != KVT_OK && err != KVT_E_AGAIN) {
			struct kvt_error error = { .code = err };
			kvi_py_raise(kvi_py_get_state((PyObject *)engine), &error, 0);
			return -1;
		}
	}
}

PyObject *kvi_py_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "timeout", NULL };
	struct kvi_py_engine *engine = (struct kvi_py_engine *)self;
	PyObject *timeout = NULL;
	int64_t timeout_ns;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", names, &timeout) ||
	    kvi_py_parse_seconds(timeout, "timeout", &timeout_ns) < 0 || kvi_py_enter(engine) < 0)
		return NULL;
	int happened = wait_for_something(engine, timeout_ns);
	kvi_py_leave(engine);
	return happened < 0 ? NULL : PyBool_FromLong(happened);
}
