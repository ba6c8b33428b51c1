/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.c - from what the user calls an interface (network interface, RDMA device, IP address)
 * to an address and device names. It asks the kernel only, never libfabric, and resolves no host
 * names but "localhost".
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fabric/interface.h"

#define RDMA_CLASS "/sys/class/infiniband"

/* An address of this host as the user wrote it. */
struct wanted {
	bool is_address; /* else the name of an interface or RDMA device */
	int family;
	union {
		struct in_addr in;
		struct in6_addr in6;
	};
	char zone[IF_NAMESIZE]; /* "": none was given */
	char name[KVI_HOST_LEN];
};

static bool is_link_local(const struct sockaddr *address)
{
	const struct sockaddr_in6 *in6 = (const void *)address;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr);
}

/* The address as text, a link-local one with its zone. False for what is no IP address. */
static bool format_address(const struct sockaddr *address, char host[KVI_HOST_LEN])
{
	if (address == NULL || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
		return false;
	socklen_t len = address->sa_family == AF_INET ? sizeof(struct sockaddr_in)
						      : sizeof(struct sockaddr_in6);
	return getnameinfo(address, len, host, KVI_HOST_LEN, NULL, 0, NI_NUMERICHOST) == 0;
}

/* What a name means: "localhost" is an address, brackets around one are left out. */
static void read_name(const char *name, struct wanted *wanted)
{
	size_t len = strlen(name);
	bool is_bracketed = len > 2 && name[0] == '[' && name[len - 1] == ']';
	if (strcmp(name, "localhost") == 0)
		snprintf(wanted->name, sizeof(wanted->name), "127.0.0.1");
	else
		snprintf(wanted->name, sizeof(wanted->name), "%.*s",
			 (int)(is_bracketed ? len - 2 : len), is_bracketed ? name + 1 : name);
	char bare[KVI_HOST_LEN];
	strcpy(bare, wanted->name);
	char *zone = strchr(bare, ':') != NULL ? strchr(bare, '%') : NULL;
	if (zone != NULL) {
		*zone = '\0';
		snprintf(wanted->zone, sizeof(wanted->zone), "%s", zone + 1);
		unsigned long index = strtoul(zone + 1, NULL, 10); /* a zone may be a number */
		if (index != 0)
			if_indextoname((unsigned)index, wanted->zone);
	}
	wanted->family = strchr(bare, ':') != NULL ? AF_INET6 : AF_INET;
	wanted->is_address = inet_pton(wanted->family, bare, &wanted->in6) == 1;
}

/* Is this the wanted address? A loopback interface has all of 127.0.0.0/8, and lists one of them. */
static bool has_address(const struct ifaddrs *at, const struct wanted *wanted)
{
	if (at->ifa_addr->sa_family != wanted->family)
		return false;
	if (wanted->family == AF_INET) {
		const struct sockaddr_in *in = (const void *)at->ifa_addr;
		const struct sockaddr_in *mask = (const void *)at->ifa_netmask;
		in_addr_t difference = in->sin_addr.s_addr ^ wanted->in.s_addr;
		if ((at->ifa_flags & IFF_LOOPBACK) != 0 && mask != NULL)
			difference &= mask->sin_addr.s_addr;
		return difference == 0;
	}
	const struct sockaddr_in6 *in6 = (const void *)at->ifa_addr;
	return memcmp(&in6->sin6_addr, &wanted->in6, sizeof(wanted->in6)) == 0 &&
	       (wanted->zone[0] == '\0' || strcmp(wanted->zone, at->ifa_name) == 0);
}

/* The network interface of an RDMA device. */
static bool read_netdev(const char *rdma, char netdev[IF_NAMESIZE])
{
	char path[256];
	bool found = false;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/ports/1/gid_attrs/ndevs/0", rdma);
	FILE *file = fopen(path, "re");
	if (file != NULL) {
		found = fscanf(file, "%15s", netdev) == 1; /* IF_NAMESIZE - 1 */
		fclose(file);
	}
	if (found)
		return true;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s/device/net", rdma);
	DIR *dir = opendir(path);
	if (dir == NULL)
		return false;
	for (struct dirent *entry; !found && (entry = readdir(dir)) != NULL;) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IF_NAMESIZE)
			continue;
		strcpy(netdev, entry->d_name);
		found = true;
	}
	closedir(dir);
	return found;
}

bool kvi_interface_is_rdma(const char *name)
{
	char path[256];
	if (name[0] == '.' || strchr(name, '/') != NULL || strlen(name) >= KVI_RDMA_NAME_LEN)
		return false;
	snprintf(path, sizeof(path), RDMA_CLASS "/%s", name);
	DIR *dir = opendir(path);
	if (dir != NULL)
		closedir(dir);
	return dir != NULL;
}

/* The first address of netdev (unless that is ""), or the interface that has the wanted one. IPv4 wins,
 * and a link-local address is taken only by itself. Returns how many interfaces have what was wanted. */
static unsigned match_address(const struct ifaddrs *addresses, const struct wanted *wanted,
			      struct kvi_interface *interface)
{
	static const int families[] = { AF_INET, AF_INET6 };
	const struct ifaddrs *found = NULL;
	unsigned count = 0;
	for (size_t i = 0; i < 2; i++) {
		for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next) {
			if (at->ifa_addr == NULL || at->ifa_addr->sa_family != families[i])
				continue;
			bool is_it = wanted->is_address
					     ? has_address(at, wanted)
					     : !is_link_local(at->ifa_addr) &&
						       strcmp(at->ifa_name, interface->netdev) == 0;
			if (!is_it)
				continue;
			if (found == NULL)
				found = at;
			count++;
		}
	}
	if (found == NULL || !format_address(found->ifa_addr, interface->host))
		return 0;
	if (wanted->family == AF_INET && wanted->is_address)
		inet_ntop(AF_INET, &wanted->in, interface->host, KVI_HOST_LEN);
	snprintf(interface->netdev, IF_NAMESIZE, "%s", found->ifa_name);
	return count;
}

/* Append " name", unless it is there or does not fit. */
static void append_name(char *text, size_t size, const char *name)
{
	size_t len = strlen(text);
	char word[KVI_RDMA_NAME_LEN + 2];
	snprintf(word, sizeof(word), " %s", name);
	const char *at = strstr(text, word);
	if (at != NULL && (at[strlen(word)] == ' ' || at[strlen(word)] == '\0'))
		return;
	if (len + strlen(word) < size)
		strcpy(text + len, word);
}

static enum kvt_err fail_unknown_interface(const char *name, const struct ifaddrs *addresses,
					   struct kvt_error *error)
{
	char names[160] = "";
	for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next) {
		if (at->ifa_addr != NULL &&
		    (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6))
			append_name(names, sizeof(names), at->ifa_name);
	}
	DIR *dir = opendir(RDMA_CLASS);
	if (dir != NULL) {
		for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
			if (entry->d_name[0] != '.')
				append_name(names, sizeof(names), entry->d_name);
		}
		closedir(dir);
	}
	return kvi_fail(error, KVT_E_INVALID, 0, "no interface \"%.40s\"; there are:%s", name,
			names);
}

/* The interface has no address that its name stands for. */
static enum kvt_err fail_unaddressed(const char *netdev, const struct ifaddrs *addresses,
				     struct kvt_error *error)
{
	char host[KVI_HOST_LEN];
	for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next) {
		if (strcmp(at->ifa_name, netdev) == 0 && format_address(at->ifa_addr, host))
			return kvi_fail(error, KVT_E_INVALID, 0,
					"interface %s has a link-local address only: pass \"%s\"",
					netdev, host);
	}
	return kvi_fail(error, KVT_E_INVALID, 0, "interface %s has no IP address", netdev);
}

/* The length of a name without a port at its end ("eth0:12345"); 0 when it has none. */
static size_t find_port(const char *name)
{
	const char *colon = strrchr(name, ':');
	bool is_port = colon != NULL && colon != name && colon[1] != '\0' &&
		       strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
		       (strchr(name, ':') == colon || colon[-1] == ']');
	return is_port ? (size_t)(colon - name) : 0;
}

/* Fill in the device names that can be found without an address. */
static enum kvt_err find_rdma_device(const char *name, const struct wanted *wanted,
				     const struct ifaddrs *addresses, struct kvi_interface *found,
				     struct kvt_error *error)
{
	if (wanted->is_address)
		return KVT_OK;
	if (if_nametoindex(wanted->name) != 0) {
		strcpy(found->netdev, wanted->name); /* the kernel knows it: it fits */
		return KVT_OK;
	}
	if (!kvi_interface_is_rdma(wanted->name))
		return fail_unknown_interface(name, addresses, error);
	strcpy(found->rdma, wanted->name);
	if (!read_netdev(wanted->name, found->netdev))
		return kvi_fail(error, KVT_E_INVALID, 0, "RDMA device %s has no network interface",
				wanted->name);
	return KVT_OK;
}

enum kvt_err kvi_interface_find(const char *name, struct kvi_interface *interface,
				struct kvt_error *error)
{
	struct kvi_interface found = { .host = "" };
	struct wanted wanted = { .is_address = false };
	struct ifaddrs *addresses;
	if (getifaddrs(&addresses) != 0)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "cannot list the network interfaces");

	read_name(name, &wanted);
	size_t len = wanted.is_address ? 0 : find_port(name);
	enum kvt_err err = find_rdma_device(name, &wanted, addresses, &found, error);
	unsigned count = err == KVT_OK ? match_address(addresses, &wanted, &found) : 0;
	if (count == 0 && len > 0)
		err = kvi_fail(error, KVT_E_INVALID, 0,
			       "interface \"%.40s\" has a port in it: pass \"%.*s\", and the "
			       "port as listen_port",
			       name, (int)len, name);
	else if (count == 0 && err == KVT_OK)
		err = wanted.is_address ? fail_unknown_interface(name, addresses, error)
					: fail_unaddressed(found.netdev, addresses, error);
	else if (count > 1 && wanted.is_address && wanted.family == AF_INET6)
		err = kvi_fail(error, KVT_E_INVALID, 0,
			       "%u interfaces have the address %s: pass it with one, as \"%s\"",
			       count, name, found.host);
	if (err == KVT_OK)
		*interface = found;
	freeifaddrs(addresses);
	return err;
}

void kvi_interface_localize(const struct kvi_interface *interface, uint8_t *address, size_t len)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_UNSPEC };
	if (len != sizeof(in6))
		return;
	memcpy(&in6, address, len);
	if (!is_link_local((const struct sockaddr *)&in6))
		return;
	in6.sin6_scope_id = if_nametoindex(interface->netdev);
	memcpy(address, &in6, len);
}
