/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.h - plain TCP sockets of the host under test, for peers that are no engines. Every wait has its limit.
 */
#ifndef RAW_H
#define RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A listener; port: where. */
int raw_listen(uint16_t *port);
int raw_accept(int listener);
int raw_connect(uint16_t port);
/* -1: nobody listens there. */
int raw_try_connect(uint16_t port);

/* Send what the other side takes; one that has gone is none of our concern. */
void raw_send(int fd, const void *bytes, size_t len);
/* Receive until len bytes are there, nothing comes for limit_ns, or the end. Returns how many came. */
size_t raw_recv(int fd, void *bytes, size_t len, int64_t limit_ns);
/* Read and drop until the other side closes or resets; false when it has not within limit_ns. */
bool raw_await_end(int fd, int64_t limit_ns);

#endif
