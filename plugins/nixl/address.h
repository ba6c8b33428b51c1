/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - where an agent is: what it tells the others of itself. */
#ifndef KVTRANS_PLUGINS_NIXL_ADDRESS_H
#define KVTRANS_PLUGINS_NIXL_ADDRESS_H

#include <cstdint>
#include <string>

namespace kvtrans
{

struct Address {
	std::string host;
	uint16_t port = 0;
	std::string instance; /* random: another one was restarted under the same name */

	std::string pack() const;
	/* False: bytes that are no address of a version that is known. */
	bool unpack(const std::string &bytes);
};

/* An address of an interface, which is a name or an address itself. Throws std::runtime_error. */
std::string find_host(const std::string &interface);
std::string make_instance();

} /* namespace kvtrans */

#endif
