/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cable.h - two processes, each in a network namespace of its own, and a veth between them. It takes root and
 * ip(8), and goes with the processes.
 */
#ifndef CABLE_H
#define CABLE_H

#include "integration/pair.h"

#define CABLE "kvt0" /* the name of each end */

/* Whether it can be laid here, and the command works at an end of it (NULL: none). */
bool can_lay_cable(const char *command);
/* In a test: between two processes that connect to it. */
void lay_cable(struct peer *one, struct peer *other);
/* In such a process: go into a namespace, and have an end with this address once it is laid. */
void connect_cable(struct peer *test, const char *host);

/* Take an interface of this process's namespace up or down. */
bool set_link(const char *name, bool up);

#endif
