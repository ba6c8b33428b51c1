/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - what makes the driver the program raw: the jobs of kvtrans-perf between two processes of this host without
 * the library, which is measured against it.
 */
#include "perf.h"

const char perf_program[] = "raw";
const char perf_doc[] = "Measure libfabric, a TCP connection, UCX or copies on one host "
			"(--path=libfabric, "
			"libfabric-batch, socket, ucx, mapped, vm) as kvtrans-perf measures "
			"KVTrans, between "
			"two processes of this host.";
const struct perf_path *const perf_paths[] = {
	&perf_path_libfabric,
	&perf_path_batch,
	&perf_path_socket,
	&perf_path_mapped,
	&perf_path_vm,
#ifdef HAVE_UCX
	&perf_path_ucx,
#endif
	NULL,
};
