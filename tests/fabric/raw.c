/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - see raw.h. */
#define _GNU_SOURCE 1 /* memfd_create, F_ADD_SEALS */
#include "raw.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int call(struct bed *bed)
{
	uint8_t address[KVI_ADDRESS_LEN_MAX];
	size_t len = kvi_listener_get_address(bed->listener, address);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)address, (socklen_t)len), 0);
	return fd;
}

struct kvi_local_hello make_hello(void)
{
	return (struct kvi_local_hello){
		.magic = KVI_LOCAL_HELLO_MAGIC,
		.ring_len = KVI_RING_LEN,
		.len = 4,
		.data = "raw",
	};
}

void say(int socket, const void *bytes, size_t len, int fd, unsigned count)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(4 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (count > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		for (unsigned i = 0; i < count; i++)
			memcpy(CMSG_DATA(head) + i * sizeof(int), &fd, sizeof(fd));
	}
	ck_assert_int_eq(sendmsg(socket, &message, MSG_NOSIGNAL), (ssize_t)len);
}

int make_file(off_t len, int seals)
{
	int fd = memfd_create("kvt-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(fd, len), 0);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

bool is_read(int socket)
{
	int left;
	ck_assert_int_eq(ioctl(socket, SIOCOUTQ, &left), 0);
	return left == 0;
}

bool has_hung_up(int socket)
{
	struct pollfd end = { .fd = socket, .events = POLLIN };
	uint8_t byte;
	return poll(&end, 1, 0) == 1 && recv(socket, &byte, 1, MSG_DONTWAIT) <= 0;
}

void raw_open(struct raw *raw, struct bed *bed, unsigned access)
{
	struct kvi_local_hello hello = make_hello();
	*raw = (struct raw){ .socket = call(bed) };
	ck_assert_int_eq(kvi_ring_make(&raw->ring, NULL), KVT_OK);
	raw->probe = UINT64_C(0x7072786f62656421);
	atomic_store(&raw->ring.own->probe_value, raw->probe);
	atomic_store(&raw->ring.own->probe_address, (uintptr_t)&raw->probe);
	say(raw->socket, &hello, sizeof(hello), raw->ring.fd, 1);
	end_accept(&raw->far, bed, bed_take_request(bed));
	area_open(&raw->area, &bed->far, LEN, access, CANARY);
	bed_wait(bed, raw->far.connected_count == 1);
}

void raw_close(struct raw *raw)
{
	if (raw->far.lane != NULL)
		end_close(&raw->far);
	area_close(&raw->area);
	kvi_ring_close(&raw->ring);
	close(raw->socket);
}

void put(struct raw *raw, const struct kvi_record *record, const struct kvi_record_span *spans,
	 size_t span_count)
{
	uint8_t *out = kvi_ring_get_out(&raw->ring);
	memcpy(out, record, sizeof(*record));
	if (span_count > 0)
		memcpy(out + sizeof(*record), spans, span_count * sizeof(*spans));
	kvi_ring_put(&raw->ring, sizeof(*record) + span_count * sizeof(*spans));
	send(raw->socket, "", 1, MSG_NOSIGNAL);
}
