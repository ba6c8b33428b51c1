/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_tcp.h - one TCP connection between both processes of a baseline, without Nagle's delay.
 */
#ifndef RAW_TCP_H
#define RAW_TCP_H

#include "raw_run.h"

/* Listen on a free port, tell the other process which, and take its connection; or connect to what
 * the other process told. Return a descriptor, or -1 with a sentence printed. */
int raw_tcp_accept(const struct raw_options *options, int control);
int raw_tcp_connect(int control);

#endif
