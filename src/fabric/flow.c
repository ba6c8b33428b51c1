/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - asking the kernel how many bytes of a lane have moved. A provider over TCP reports an operation
 * when all of it is through; on a slow link only the socket tells before that whether it still drains. The
 * provider keeps the socket to itself, but the kernel finds it by its addresses.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#include "fabric/internal.h"

struct question {
	struct nlmsghdr header;
	struct inet_diag_req_v2 request;
};

void kvi_ofi_lane_get_flow(struct kvi_lane *base, struct kvi_flow *flow)
{
	struct kvi_ofi_lane *lane = kvi_ofi_lane(base);
	size_t own_len = sizeof(flow->own), peer_len = sizeof(flow->peer);
	if (lane->ep == NULL || fi_getname(&lane->ep->fid, flow->own, &own_len) != 0 ||
	    fi_getpeer(lane->ep, flow->peer, &peer_len) != 0)
		memset(flow, 0, sizeof(*flow));
}

/* Fill in one end of a socket. Returns the family, 0 when it is no IP address. */
static sa_family_t fill_end(const uint8_t *bytes, __be16 *port, __be32 address[4])
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	memcpy(&in, bytes, sizeof(in));
	memcpy(&in6, bytes, sizeof(in6));
	*port = in.sin_port; /* at the same place in both */
	if (in.sin_family == AF_INET)
		memcpy(address, &in.sin_addr, sizeof(in.sin_addr));
	else if (in.sin_family == AF_INET6)
		memcpy(address, &in6.sin6_addr, sizeof(in6.sin6_addr));
	else
		return 0;
	return in.sin_family;
}

/* In an answer: a number that grows with each byte that came, and each of ours that arrived. */
static uint64_t read_moved(const uint8_t *answer, size_t len)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
	if (!NLMSG_OK(header, len) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    header->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
		return 0;
	const struct inet_diag_msg *found = NLMSG_DATA(header);
	const struct rtattr *attribute = (const struct rtattr *)(found + 1);
	size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof(*found));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
		struct tcp_info info = { 0 };
		if (attribute->rta_type != INET_DIAG_INFO)
			continue;
		size_t size = RTA_PAYLOAD(attribute);
		memcpy(&info, RTA_DATA(attribute), size < sizeof(info) ? size : sizeof(info));
		return info.tcpi_bytes_acked + info.tcpi_bytes_received;
	}
	return 0;
}

uint64_t kvi_ofi_flow_get_moved(const struct kvi_flow *flow)
{
	struct question question = {
		.header = { .nlmsg_len = sizeof(question),
			    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			    .nlmsg_flags = NLM_F_REQUEST },
		.request = { .sdiag_protocol = IPPROTO_TCP,
			     .idiag_ext = 1 << (INET_DIAG_INFO - 1),
			     .idiag_states = ~0U,
			     .id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
	};
	struct inet_diag_sockid *id = &question.request.id;
	question.request.sdiag_family =
		(uint8_t)fill_end(flow->own, &id->idiag_sport, id->idiag_src);
	if (question.request.sdiag_family == 0 ||
	    fill_end(flow->peer, &id->idiag_dport, id->idiag_dst) != question.request.sdiag_family)
		return 0;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return 0;
	_Alignas(struct nlmsghdr) uint8_t answer[2048];
	ssize_t len = -1;
	if (send(fd, &question, sizeof(question), 0) == sizeof(question))
		len = recv(fd, answer, sizeof(answer), MSG_DONTWAIT); /* the kernel has answered */
	close(fd);
	return len < 0 ? 0 : read_moved(answer, (size_t)len);
}
