/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE 1 /* memfd_create, F_ADD_SEALS */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Of Linux 6.3, which the C library's headers may not know. */
enum { NOEXEC_SEAL = 0x0008, SEAL_EXEC = 0x0020 };

struct kvi_file_id kvi_file_identify(int fd)
{
	struct stat stat;
	struct kvi_file_id id = { .ino = 0 };
	if (fstat(fd, &stat) == 0) {
		id.dev = stat.st_dev;
		id.ino = stat.st_ino;
	}
	return id;
}

bool kvi_file_is(int fd, const struct kvi_file_id *id)
{
	struct kvi_file_id now = kvi_file_identify(fd);
	return now.ino != 0 && now.ino == id->ino && now.dev == id->dev;
}

int kvi_file_make_memory(const char *name, size_t len, int seals)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | NOEXEC_SEAL); /* where vm.memfd_noexec is 2: a must */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)len) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0)
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

int kvi_file_get_seals(int fd)
{
	struct statfs statfs;
	int seals = fcntl(fd, F_GET_SEALS);
	/* Huge pages that were promised may be missing, which kills who reads them. */
	if (seals < 0 || fstatfs(fd, &statfs) != 0 || statfs.f_type != TMPFS_MAGIC)
		return -1;
	return seals & ~SEAL_EXEC;
}
