/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - which file a descriptor is, and memory as a file.
 *
 * An application may close descriptors that are not its own, and have others by the same numbers: a descriptor that
 * was kept is asked before it is read, written, handed over or closed.
 */
#ifndef KVI_BASE_FILE_H
#define KVI_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct kvi_file_id {
	dev_t dev;
	ino_t ino; /* 0: of no file */
};

struct kvi_file_id kvi_file_identify(int fd);
bool kvi_file_is(int fd, const struct kvi_file_id *id);

/* A memfd of that length with those seals, that nobody can execute. -1: errno tells. */
int kvi_file_make_memory(const char *name, size_t len, int seals);

/* The seals of a memfd of ordinary pages, but for that against executing it; -1: it is none. A descriptor of
 * a stranger's is asked this first: it waits for no file system. */
int kvi_file_get_seals(int fd);

#endif
