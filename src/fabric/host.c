/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - which host this is. The kernel's boot id is random, and no namespace has one of its own. A virtual machine
 * that was cloned while it ran has its twin's: so it is a reason to look for a peer here, and no proof.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fabric/fabric.h"

size_t kvi_host_read_id(uint8_t id[KVI_HOST_ID_LEN])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t got = read(fd, id, KVI_HOST_ID_LEN);
	int err = got < 0 ? errno : EIO;
	close(fd);
	errno = err;
	return got == KVI_HOST_ID_LEN ? KVI_HOST_ID_LEN : 0;
}
