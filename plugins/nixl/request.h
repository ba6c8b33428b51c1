/* SPDX-License-Identifier: Apache-2.0 */
/* request.h - memory, ours and a peer's, and a transfer between the two that can be posted again and again. */
#ifndef KVTRANS_PLUGINS_NIXL_REQUEST_H
#define KVTRANS_PLUGINS_NIXL_REQUEST_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <kvtrans.h>

#include "interface.h"

namespace kvtrans
{

class Peer;

/* Memory of ours: a pool, offered by name to every peer. */
class Region
{
      public:
	Region(kvt_pool *pool, kvt_offer *offer, std::string name, const nixl::Span &span)
	    : pool(pool), offer(offer), name(std::move(name)), span(span)
	{
	}
	Region(const Region &) = delete;
	Region &operator=(const Region &) = delete;
	~Region();

	kvt_pool *const pool;
	kvt_offer *const offer;
	const std::string name;
	const nixl::Span span;
	std::atomic<bool> gone{ false }; /* NIXL has deregistered it */
};

/* A peer's. */
class Remote
{
      public:
	Remote(std::string name, const nixl::Span &span) : name(std::move(name)), span(span)
	{
	}
	Remote(const Remote &) = delete;
	Remote &operator=(const Remote &) = delete;
	~Remote();
	/* Found, or known not to be there, on the peer's session of this number. */
	bool is_settled(uint64_t now) const
	{
		return session == now;
	}

	const std::string name;
	const nixl::Span span;
	/* under the peer's lock */
	kvt_remote *handle = nullptr;
	enum kvt_err failure = KVT_OK;
	uint64_t session = 0;
};

/* What NIXL keeps of the two, and hands over with each descriptor. */
class LocalMemory : public nixl::Registered
{
      public:
	explicit LocalMemory(std::shared_ptr<Region> region) : region(std::move(region))
	{
	}
	const std::shared_ptr<Region> region;
};

class RemoteMemory : public nixl::Registered
{
      public:
	RemoteMemory(std::shared_ptr<Peer> peer, std::shared_ptr<Remote> remote)
	    : peer(std::move(peer)), remote(std::move(remote))
	{
	}
	const std::shared_ptr<Peer> peer;
	const std::shared_ptr<Remote> remote;
};

/* The spans between two pieces of memory: count of a request's, from first on. */
struct Part {
	std::shared_ptr<Region> local;
	std::shared_ptr<Remote> remote;
	size_t first = 0;
	size_t count = 0;
};

class Request : public nixl::Handle
{
      public:
	/* Null: the lists do not fit each other, or what is registered. */
	static std::unique_ptr<Request> create(nixl::Operation operation, const nixl::Spans &local,
					       const nixl::Spans &remote);
	~Request() override;

	Peer &peer() const
	{
		return *peer_;
	}
	const std::vector<Part> &parts() const
	{
		return parts_;
	}
	void set_notification(std::string text);
	void clear_notification()
	{
		has_notification_ = false;
	}
	enum kvt_err check() const;

	/* Under the peer's lock: */
	void wait();
	enum kvt_err start(uint64_t session);
	void fail(enum kvt_err err);

      private:
	Request() = default;
	bool has_lost_memory() const;
	void add_spans(const nixl::Spans &local, const nixl::Spans &remote);
	bool sort_into_parts(const nixl::Spans &local, const nixl::Spans &remote);
	void turn_into_blocks();
	enum kvt_err start_blocks(kvt_error *error);
	enum kvt_err start_parts(kvt_error *error);

	enum class State { NEW, WAITING, STARTED, FAILED };

	std::shared_ptr<Peer> peer_;
	enum kvt_direction direction_ = KVT_WRITE;
	std::vector<Part> parts_;
	std::vector<uint32_t> part_of_; /* of each descriptor; empty when there is one part */
	std::vector<uint64_t> local_off_;
	std::vector<uint64_t> remote_off_;
	std::vector<uint64_t> lens_;
	size_t block_len_ = 0; /* not 0: there are blocks of this length, and no spans */
	std::vector<int32_t> local_idx_;
	std::vector<int32_t> remote_idx_;
	std::vector<kvt_part> table_; /* what the library is given; remotes are those of session_ */
	uint64_t session_ = 0;
	std::string notification_;
	bool has_notification_ = false;
	/* written under the peer's lock, the others before state_ */
	std::atomic<State> state_{ State::NEW };
	kvt_transfer *transfer_ = nullptr;
	enum kvt_err err_ = KVT_OK;
};

} /* namespace kvtrans */

#endif
