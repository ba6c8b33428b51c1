/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.h - what the user calls an interface: an IP address, and the devices behind it.
 */
#ifndef KVI_FABRIC_INTERFACE_H
#define KVI_FABRIC_INTERFACE_H

#include <net/if.h>

#include "fabric/fabric.h"

enum { KVI_RDMA_NAME_LEN = 64 };

/* Where a rail is: its IP address, and the names of the devices behind it ("": there is none). */
struct kvi_interface {
	char host[KVI_HOST_LEN];
	char netdev[IF_NAMESIZE];
	char rdma[KVI_RDMA_NAME_LEN]; /* only when the user named the RDMA device */
};

enum kvt_err kvi_interface_find(const char *name, struct kvi_interface *interface,
				struct kvt_error *error);
bool kvi_interface_is_rdma(const char *name);
/* A link-local address of the peer's is reached by this interface, whatever its zone was there. */
void kvi_interface_localize(const struct kvi_interface *interface, uint8_t *address, size_t len);

#endif
