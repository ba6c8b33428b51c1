/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "settings.h"

namespace kvtrans
{

namespace
{

/* Longer than a peer can be silent and not be lost: one that stood still so long answers in time. */
constexpr int64_t find_ns = 5000000000;
/* What is looked for at the same time. */
constexpr size_t finds_max = 1024;
/* So many connections of one job may end before they were of use. */
constexpr int lost_max = 3;
/* A peer that could not be reached is not called again sooner. */
constexpr std::chrono::seconds respite{ 1 };

} /* namespace */

bool Peer::is_open()
{
	return conn_ != nullptr && kvt_conn_get_status(conn_, nullptr) == KVT_OK;
}

bool Peer::is_in_respite() const
{
	return failure_ != KVT_OK && std::chrono::steady_clock::now() < failed_at_ + respite;
}

bool Peer::is_ready(const Request &request) const
{
	return std::all_of(request.parts().begin(), request.parts().end(),
			   [this](const Part &part) { return part.remote->is_settled(session_); });
}

void Peer::want(const std::vector<Part> &parts)
{
	for (const Part &part : parts) {
		if (!is_open() || !part.remote->is_settled(session_))
			wanted_.push_back(part.remote);
	}
}

void Peer::approach(const std::vector<Part> &parts)
{
	std::lock_guard guard(lock_);
	want(parts);
	if (!is_open() || !wanted_.empty())
		go();
}

enum kvt_err Peer::start(Request &request)
{
	std::lock_guard guard(lock_);
	if (dropped_)
		return KVT_E_CLOSED;
	if (is_open() && is_ready(request))
		return request.start(session_);
	if (!is_open() && is_in_respite())
		return failure_;
	request.wait();
	waiting_.push_back(&request);
	want(request.parts());
	go();
	return KVT_OK;
}

enum kvt_err Peer::notify(const std::string &text)
{
	std::lock_guard guard(lock_);
	if (dropped_)
		return KVT_E_CLOSED;
	if (is_open())
		return service_.send(conn_, text);
	if (is_in_respite())
		return failure_;
	unsent_.push_back(text);
	go();
	return KVT_OK;
}

bool Peer::is_sending()
{
	std::lock_guard guard(lock_);
	return !unsent_.empty();
}

void Peer::forget(Request &request)
{
	std::lock_guard guard(lock_);
	std::erase(waiting_, &request);
}

void Peer::drop()
{
	std::lock_guard guard(lock_);
	dropped_ = true;
	if (conn_ != nullptr && !busy_) /* else the job, which may be using it, closes it */
		service_.close_later(std::exchange(conn_, nullptr));
	fail_all(KVT_E_CLOSED);
}

void Peer::fail_all(enum kvt_err err)
{
	for (Request *request : waiting_)
		request->fail(err);
	waiting_.clear();
	wanted_.clear();
	if (!unsent_.empty())
		complain_undelivered(unsent_.size(), kvt_err_get_text(err));
	unsent_.clear();
}

/* Set a job to work, unless one is or nothing can come of it. */
void Peer::go()
{
	if (busy_ || dropped_)
		return;
	busy_ = true;
	try {
		service_.run([self = shared_from_this()] { self->work(); });
	} catch (const std::system_error &error) {
		complain(std::string("no thread to connect with: ") + error.what());
		busy_ = false;
		fail_all(KVT_E_LIMIT);
	}
}

void Peer::work()
{
	std::unique_lock guard(lock_);
	int lost = 0;
	while (!dropped_) {
		if (!is_open() && !open_conn(guard))
			break;
		send_unsent();
		find_remotes(guard);
		if (!is_open()) {
			if (++lost == lost_max) {
				give_up();
				break;
			}
		} else if (wanted_.empty()) {
			send_unsent();
			start_waiting();
			if (wanted_.empty())
				break;
		}
	}
	if (dropped_ && conn_ != nullptr)
		service_.close_later(std::exchange(conn_, nullptr));
	busy_ = false;
}

/* Else a peer that ends each connection would be called for ever. */
void Peer::give_up()
{
	failure_ = kvt_conn_get_status(conn_, nullptr);
	failed_at_ = std::chrono::steady_clock::now();
	complain("the peer ends each connection before it can be used");
	fail_all(failure_);
}

/* False: it failed, and with it what waits. */
bool Peer::open_conn(std::unique_lock<std::mutex> &guard)
{
	kvt_conn *conn = nullptr;
	kvt_error error;
	if (conn_ != nullptr)
		service_.close_later(std::exchange(conn_, nullptr));
	guard.unlock();
	enum kvt_err err = kvt_conn_open_address(service_.engine(), address_.data(),
						 address_.size(), 0, &conn, &error);
	guard.lock();
	failure_ = err;
	failed_at_ = std::chrono::steady_clock::now();
	if (err != KVT_OK) {
		if (!dropped_)
			complain(error.text);
		fail_all(err);
		return false;
	}
	if (dropped_) {
		service_.close_later(conn);
		return false;
	}
	conn_ = conn;
	session_++;
	return true;
}

/* Find what is wanted, all at the same time, until that is done or the connection has ended. */
void Peer::find_remotes(std::unique_lock<std::mutex> &guard)
{
	while (!wanted_.empty() && !dropped_ && is_open()) {
		std::vector<std::shared_ptr<Remote>> remotes;
		while (!wanted_.empty() && remotes.size() < finds_max) {
			std::shared_ptr<Remote> remote = std::move(wanted_.back());
			wanted_.pop_back();
			if (!remote->is_settled(session_))
				remotes.push_back(std::move(remote));
		}
		guard.unlock(); /* the connection stays: this job alone closes it */
		std::vector<Find> finds(remotes.size());
		for (size_t i = 0; i < finds.size(); i++)
			start_find(*remotes[i], finds[i]);
		for (Find &find : finds)
			end_find(find);
		guard.lock();
		for (size_t i = 0; i < finds.size(); i++)
			settle(std::move(remotes[i]), finds[i]);
	}
}

void Peer::start_find(const Remote &remote, Find &find)
{
	kvt_import_request request = KVT_IMPORT_REQUEST_INIT;
	kvt_error error;
	request.conn = conn_;
	request.name = remote.name.c_str();
	request.timeout_ns = find_ns;
	find.err = kvt_import_start(&request, &find.transfer, &error);
	if (find.err != KVT_OK)
		find.text = error.text;
}

void Peer::end_find(Find &find)
{
	if (find.transfer == nullptr)
		return;
	kvt_result result = KVT_RESULT_INIT;
	while (kvt_transfer_wait(find.transfer, KVT_FOREVER) != KVT_OK) {
	}
	kvt_transfer_get_result(find.transfer, &result);
	find.err = result.err;
	find.text = result.text;
	find.remote = kvt_transfer_take_remote(find.transfer);
	kvt_transfer_free(find.transfer);
}

/* What could not be found for the connection's fault is wanted on the next one. */
void Peer::settle(std::shared_ptr<Remote> remote, const Find &find)
{
	if (find.err != KVT_OK && !is_open()) {
		wanted_.push_back(std::move(remote));
		return;
	}
	if (find.err != KVT_OK)
		complain("memory of the peer's: " + find.text);
	kvt_remote_close(std::exchange(remote->handle, find.remote));
	remote->failure = find.err == KVT_E_TIMEOUT ? KVT_E_WITHDRAWN : find.err;
	remote->session = session_;
}

void Peer::start_waiting()
{
	std::vector<Request *> waiting;
	waiting.swap(waiting_);
	for (Request *request : waiting) {
		if (!is_ready(*request)) {
			waiting_.push_back(request);
			want(request->parts());
			continue;
		}
		enum kvt_err err = request->start(session_);
		if (err != KVT_OK)
			request->fail(err);
	}
}

void Peer::send_unsent()
{
	std::vector<std::string> unsent;
	unsent.swap(unsent_);
	for (const std::string &text : unsent)
		service_.send(conn_, text);
}

} /* namespace kvtrans */
