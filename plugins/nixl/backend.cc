/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include "settings.h"

namespace kvtrans
{

namespace
{

nixl::Status to_status(enum kvt_err err)
{
	switch (err) {
	case KVT_OK:
		return nixl::SUCCESS;
	case KVT_E_AGAIN:
		return nixl::IN_PROGRESS;
	case KVT_E_INVALID:
	case KVT_E_TOO_LARGE:
		return nixl::INVALID;
	case KVT_E_UNSUPPORTED:
		return nixl::UNSUPPORTED;
	case KVT_E_CANCELLED:
		return nixl::CANCELLED;
	case KVT_E_ACCESS:
	case KVT_E_AUTH:
		return nixl::NOT_ALLOWED;
	case KVT_E_WITHDRAWN:
		return nixl::NOT_FOUND;
	case KVT_E_VERSION:
		return nixl::MISMATCH;
	case KVT_E_CLOSED:
	case KVT_E_UNREACHABLE:
	case KVT_E_PEER_LOST:
	case KVT_E_PEER_CLOSED:
	case KVT_E_PROTOCOL:
		return nixl::DISCONNECTED;
	default:
		return nixl::BACKEND;
	}
}

nixl::Status to_status_loudly(enum kvt_err err, const kvt_error &error)
{
	if (err != KVT_OK)
		complain(error.text);
	return to_status(err);
}

/* Notifications have so long to arrive when their agent ends: as long as connecting may take. */
constexpr std::chrono::seconds goodbye{ 5 };

/* What metadata begins with; another number, and it is of another version. */
constexpr std::string_view version = "kvtrans-1 ";

std::string read_address(const kvt_engine *engine)
{
	size_t len = 0;
	enum kvt_err err = kvt_engine_get_address(engine, nullptr, &len);
	std::string address(len, '\0');
	if (err == KVT_OK)
		err = kvt_engine_get_address(engine, address.data(), &len);
	if (err != KVT_OK)
		throw std::runtime_error(std::string("the engine has no address: ") +
					 kvt_err_get_text(err));
	return address;
}

} /* namespace */

KvtransBackend::KvtransBackend(const nixl::Start &start)
    : nixl::Backend(start),
      service_(std::make_unique<Service>(open_engine(*start.settings, start.agent))),
      address_(read_address(service_->engine()))
{
	peers_[agent_] = std::make_shared<Peer>(*service_, address_);
}

/* What waits for a connection, or is under way. */
bool KvtransBackend::is_sending() const
{
	return service_->is_sending() ||
	       std::any_of(peers_.begin(), peers_.end(),
			   [](const auto &entry) { return entry.second->is_sending(); });
}

KvtransBackend::~KvtransBackend()
{
	if (service_->is_forked()) {
		(void)service_.release();
		return;
	}
	auto end = std::chrono::steady_clock::now() + goodbye;
	while (is_sending() && std::chrono::steady_clock::now() < end)
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	for (auto &[agent, peer] : peers_)
		peer->drop();
	service_.reset();
}

bool KvtransBackend::supports_remote() const
{
	return true;
}

bool KvtransBackend::supports_local() const
{
	return true;
}

bool KvtransBackend::supports_notifications() const
{
	return true;
}

nixl::Memories KvtransBackend::get_memories() const
{
	return { nixl::HOST };
}

nixl::Status KvtransBackend::register_memory(const nixl::DescribedSpan &span,
					     const nixl::Memory &memory,
					     nixl::Registered *&registered)
{
	if (memory != nixl::HOST)
		return nixl::UNSUPPORTED;
	kvt_extent extent = { reinterpret_cast<void *>(span.address), span.len, 1 };
	kvt_pool_config config = KVT_POOL_CONFIG_INIT;
	config.extents = &extent;
	config.extent_count = 1;
	config.block_len = 1;
	kvt_pool *pool = nullptr;
	kvt_offer *offer = nullptr;
	kvt_error error;
	enum kvt_err err = kvt_pool_open(service_->engine(), &config, &pool, &error);
	if (err != KVT_OK)
		return to_status_loudly(err, error);
	std::string name = std::to_string(++region_count_);
	err = kvt_offer_open(service_->engine(), pool, KVT_ACCESS_READ | KVT_ACCESS_WRITE,
			     name.c_str(), &offer, &error);
	if (err != KVT_OK) {
		kvt_pool_close(pool);
		return to_status_loudly(err, error);
	}
	registered = new LocalMemory(std::make_shared<Region>(pool, offer, std::move(name), span));
	return nixl::SUCCESS;
}

/* Requests that were prepared with it may be there still; they end. */
nixl::Status KvtransBackend::deregister_memory(nixl::Registered *registered)
{
	if (service_->is_forked())
		return nixl::SUCCESS;
	const std::shared_ptr<Region> region = static_cast<LocalMemory *>(registered)->region;
	region->gone = true;
	kvt_pool_stop(region->pool);
	delete registered;
	return nixl::SUCCESS;
}

std::shared_ptr<Peer> KvtransBackend::find_peer(const std::string &agent) const
{
	std::lock_guard guard(lock_);
	auto found = peers_.find(agent);
	return found == peers_.end() ? nullptr : found->second;
}

nixl::Status KvtransBackend::connect(const std::string &agent)
{
	std::shared_ptr<Peer> peer = find_peer(agent);
	if (peer == nullptr)
		return nixl::NOT_FOUND;
	if (agent != agent_) /* ourselves: not before that is used */
		peer->approach({});
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::disconnect(const std::string &agent)
{
	if (service_->is_forked())
		return nixl::SUCCESS;
	std::shared_ptr<Peer> peer;
	{
		std::lock_guard guard(lock_);
		auto found = peers_.find(agent);
		if (found == peers_.end() || agent == agent_)
			return nixl::NOT_FOUND;
		peer = std::move(found->second);
		peers_.erase(found);
	}
	peer->drop();
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::unload(nixl::Registered *registered)
{
	if (service_->is_forked())
		return nixl::SUCCESS;
	delete registered;
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::prepare(const nixl::Operation &operation, const nixl::Spans &local,
				     const nixl::Spans &remote, const std::string &,
				     nixl::Handle *&handle, const nixl::Options *) const
{
	std::unique_ptr<Request> request = Request::create(operation, local, remote);
	if (request == nullptr)
		return nixl::INVALID;
	request->peer().approach(request->parts());
	handle = request.release();
	return nixl::SUCCESS;
}

/* The lists are those of prepare(). */
nixl::Status KvtransBackend::post(const nixl::Operation &, const nixl::Spans &, const nixl::Spans &,
				  const std::string &, nixl::Handle *&handle,
				  const nixl::Options *options) const
{
	auto *request = static_cast<Request *>(handle);
	if (options != nullptr && options->has_notification)
		request->set_notification(options->notification);
	else
		request->clear_notification();
	enum kvt_err err = request->peer().start(*request);
	return err == KVT_OK ? nixl::IN_PROGRESS : to_status(err);
}

nixl::Status KvtransBackend::check(nixl::Handle *handle) const
{
	return to_status(static_cast<Request *>(handle)->check());
}

nixl::Status KvtransBackend::release(nixl::Handle *handle) const
{
	if (service_->is_forked())
		return nixl::SUCCESS;
	auto *request = static_cast<Request *>(handle);
	if (request != nullptr)
		request->peer().forget(*request);
	delete request;
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::describe_memory(const nixl::Registered *registered,
					     std::string &text) const
{
	text = version;
	text += static_cast<const LocalMemory *>(registered)->region->name;
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::describe_agent(std::string &text) const
{
	text = version;
	text += address_;
	return nixl::SUCCESS;
}

/* Another instance under a name that is known takes the place of the old one. */
nixl::Status KvtransBackend::load_agent(const std::string &agent, const std::string &text)
{
	if (!text.starts_with(version)) {
		complain("the metadata of agent \"" + agent +
			 "\" is of another version of KVTrans");
		return nixl::MISMATCH;
	}
	std::string address = text.substr(version.size());
	std::shared_ptr<Peer> old;
	{
		std::lock_guard guard(lock_);
		std::shared_ptr<Peer> &peer = peers_[agent];
		if (peer != nullptr && peer->address() == address)
			return nixl::SUCCESS;
		old = std::exchange(peer, std::make_shared<Peer>(*service_, std::move(address)));
	}
	if (old != nullptr)
		old->drop();
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::load_remote(const nixl::DescribedSpan &span,
					 const nixl::Memory &memory, const std::string &agent,
					 nixl::Registered *&registered)
{
	std::shared_ptr<Peer> peer = find_peer(agent);
	if (memory != nixl::HOST || peer == nullptr)
		return nixl::NOT_FOUND;
	if (!span.description.starts_with(version))
		return nixl::MISMATCH;
	registered = new RemoteMemory(
		std::move(peer),
		std::make_shared<Remote>(span.description.substr(version.size()), span));
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::load_local(nixl::Registered *input, nixl::Registered *&registered)
{
	const Region &region = *static_cast<LocalMemory *>(input)->region;
	registered = new RemoteMemory(find_peer(agent_),
				      std::make_shared<Remote>(region.name, region.span));
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::take_notifications(nixl::Notifications &notifications)
{
	service_->take_notifications(notifications);
	return nixl::SUCCESS;
}

nixl::Status KvtransBackend::notify(const std::string &agent, const std::string &text) const
{
	std::shared_ptr<Peer> peer = find_peer(agent);
	if (peer == nullptr)
		return nixl::NOT_FOUND;
	if (text.size() > KVT_NOTIFY_LEN_MAX)
		return nixl::INVALID;
	return to_status(peer->notify(text));
}

} /* namespace kvtrans */
