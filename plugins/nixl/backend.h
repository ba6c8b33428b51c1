/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the backend that NIXL sees: each call is one of the library's, or of peer.h's. */
#ifndef KVTRANS_PLUGINS_NIXL_BACKEND_H
#define KVTRANS_PLUGINS_NIXL_BACKEND_H

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "interface.h"
#include "peer.h"
#include "service.h"

namespace kvtrans
{

class KvtransBackend final : public nixl::Backend
{
      public:
	/* Throws std::runtime_error. */
	explicit KvtransBackend(const nixl::Start &start);
	~KvtransBackend() override;

	bool supports_remote() const override;
	bool supports_local() const override;
	bool supports_notifications() const override;
	nixl::Memories get_memories() const override;

	nixl::Status register_memory(const nixl::DescribedSpan &span, const nixl::Memory &memory,
				     nixl::Registered *&registered) override;
	nixl::Status deregister_memory(nixl::Registered *registered) override;

	nixl::Status connect(const std::string &agent) override;
	nixl::Status disconnect(const std::string &agent) override;
	nixl::Status unload(nixl::Registered *registered) override;

	nixl::Status prepare(const nixl::Operation &operation, const nixl::Spans &local,
			     const nixl::Spans &remote, const std::string &agent,
			     nixl::Handle *&handle, const nixl::Options *options) const override;
	nixl::Status post(const nixl::Operation &operation, const nixl::Spans &local,
			  const nixl::Spans &remote, const std::string &agent,
			  nixl::Handle *&handle, const nixl::Options *options) const override;
	nixl::Status check(nixl::Handle *handle) const override;
	nixl::Status release(nixl::Handle *handle) const override;

	nixl::Status describe_memory(const nixl::Registered *registered,
				     std::string &text) const override;
	nixl::Status describe_agent(std::string &text) const override;
	nixl::Status load_agent(const std::string &agent, const std::string &text) override;
	nixl::Status load_remote(const nixl::DescribedSpan &span, const nixl::Memory &memory,
				 const std::string &agent, nixl::Registered *&registered) override;
	nixl::Status load_local(nixl::Registered *input, nixl::Registered *&registered) override;

	nixl::Status take_notifications(nixl::Notifications &notifications) override;
	nixl::Status notify(const std::string &agent, const std::string &text) const override;

      private:
	std::unique_ptr<Service> service_;
	const std::string address_;
	std::atomic<uint64_t> region_count_{ 0 };
	mutable std::mutex lock_;
	/* under lock_ */
	std::map<std::string, std::shared_ptr<Peer>> peers_; /* by the agent's name; ourselves, too */

	bool is_sending() const;
	std::shared_ptr<Peer> find_peer(const std::string &agent) const;
};

} /* namespace kvtrans */

#endif
