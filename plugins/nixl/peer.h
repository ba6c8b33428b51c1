/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - an agent whose metadata was loaded: the connection to it, opened when first used and again when it
 * was lost, and the memory of his that requests name. Nothing here waits: what needs the connection first is
 * started by the job that opens it.
 */
#ifndef KVTRANS_PLUGINS_NIXL_PEER_H
#define KVTRANS_PLUGINS_NIXL_PEER_H

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <kvtrans.h>

#include "request.h"
#include "service.h"

namespace kvtrans
{

class Peer : public std::enable_shared_from_this<Peer>
{
      public:
	/* address: of the library's, for kvt_conn_open_address() */
	Peer(Service &service, std::string address)
	    : service_(service), address_(std::move(address))
	{
	}
	const std::string &address() const
	{
		return address_;
	}
	/* Open the connection, unless it is there or has just failed, and find the memory that these name. */
	void approach(const std::vector<Part> &parts);
	/* Start it now, or when the connection is there. An error that is known at once is returned. */
	enum kvt_err start(Request &request);
	enum kvt_err notify(const std::string &text);
	/* Whether notifications wait for the connection. */
	bool is_sending();
	/* Nothing of the request is started any more. */
	void forget(Request &request);
	/* The agent's metadata was unloaded: close the connection, fail what waits. */
	void drop();

      private:
	/* Looking for one memory of the peer's, and what came of it. */
	struct Find {
		kvt_transfer *transfer = nullptr;
		kvt_remote *remote = nullptr;
		enum kvt_err err = KVT_OK;
		std::string text;
	};

	Service &service_;
	const std::string address_;
	std::mutex lock_;
	/* under lock_ */
	kvt_conn *conn_ = nullptr;
	uint64_t session_ = 0; /* counts connections; handles of remotes are those of one */
	bool busy_ = false;    /* a job is at work */
	bool dropped_ = false;
	enum kvt_err failure_ = KVT_OK; /* why the last attempt to connect failed, */
	std::chrono::steady_clock::time_point failed_at_; /* and when */
	std::vector<std::shared_ptr<Remote>> wanted_;
	std::vector<Request *> waiting_;
	std::vector<std::string> unsent_;

	bool is_open();
	bool is_in_respite() const;
	bool is_ready(const Request &request) const;
	void want(const std::vector<Part> &parts);
	void go();
	void work();
	bool open_conn(std::unique_lock<std::mutex> &guard);
	void find_remotes(std::unique_lock<std::mutex> &guard);
	void start_find(const Remote &remote, Find &find);
	void end_find(Find &find);
	void settle(std::shared_ptr<Remote> remote, const Find &find);
	void give_up();
	void start_waiting();
	void send_unsent();
	void fail_all(enum kvt_err err);
};

} /* namespace kvtrans */

#endif
