/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_perf.c - what makes the driver the program kvtrans-perf, which is installed and uses the public API alone.
 */
#include "perf.h"

#include <argp.h>
#include <stdio.h>

#include <kvtrans.h>

const char perf_program[] = "kvtrans-perf";
const char perf_doc[] = "Measure KVTrans between two processes. Without HOST and --self it is "
			"the server, with HOST the client, with --self both.\v"
			"Exit status: 0 success, 1 failure, 2 wrong use, 3 wrong bytes, "
			"130 interrupted.";
const struct perf_path *const perf_paths[] = { &perf_path_kvtrans, NULL };

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "kvtrans-perf %s\n", kvt_get_version());
}

void (*argp_program_version_hook)(FILE *stream, struct argp_state *state) = print_version;
