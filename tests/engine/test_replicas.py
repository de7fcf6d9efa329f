"""Several servers of one model: each gets its share, as a list and behind one address, also one that comes later."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import statistics
import sys
import types
from collections import Counter

import dask
import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.transport.renewal import Renewal
from curator_llm.engine.transport.replicas import LONGEST_REST_S, Replicas
from curator_llm.testing import FakeServer
from curator_llm.testing.relays import Balancer

URLS = [f"http://replica-{number}/v1" for number in range(4)]


# --- the rules, without a network -------------------------------------------------------------------------------------
def test_the_replica_with_the_fewest_requests_in_flight_gets_the_next():
    replicas = Replicas(URLS)
    first, second, *_ = [replicas.take(0.0) for _ in range(8)]
    replicas.give_back(second, failed=False, now=1.0)
    assert replicas.take(1.0) is second
    assert replicas.take(1.0) is first  # all have two: the longest unused


def test_a_replica_that_fails_rests_longer_each_time_and_comes_back_with_its_first_success():
    replicas = Replicas(URLS[:2])
    sick, now = replicas.take(0.0), 0.0
    rests = []
    for _ in range(8):
        replicas.give_back(sick, failed=True, now=now)
        rests.append(sick.rests_until - now)
        other = replicas.take(now)
        assert other is not sick
        replicas.give_back(other, failed=False, now=now)
        now = sick.rests_until
        while (taken := replicas.take(now)) is not sick:
            pass
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_REST_S] * 3]
    replicas.give_back(taken, failed=False, now=now)
    assert (sick.failures, sick.rests_until) == (0, 0.0)


def test_when_all_replicas_rest_one_is_asked_all_the_same():
    replicas = Replicas(URLS[:2])
    for replica in [replicas.take(0.0), replicas.take(0.0)]:
        replicas.give_back(replica, failed=True, now=0.0)
    assert {replicas.take(0.1).base_url, replicas.take(0.1).base_url} == set(URLS[:2])


def test_connections_are_renewed_one_at_a_time_and_most_within_their_age():
    rng = random.Random(5)
    renewal, age_s, connections = Renewal(300.0, rng), 300.0, 100
    born, ages, renewals_at = [0.0] * connections, [], []
    for second in range(1, 3_001):  # each connection answers one request a second
        for number in rng.sample(range(connections), connections):
            renewal.worked(1.0)
            if renewal.is_due():
                ages.append(second - born[number])
                born[number] = second
                renewals_at.append(second)
    assert statistics.mean(ages) == pytest.approx(age_s / 2, rel=0.1)
    assert sum(age <= age_s for age in ages) / len(ages) == pytest.approx(0.86, abs=0.03)
    assert max(Counter(renewals_at).values()) <= 3


def test_requests_of_equal_length_in_turn_renew_all_connections_not_a_few():
    renewal, renewed = Renewal(20.0, random.Random(5)), set()
    for request in range(20_000):
        renewal.worked(1.0)
        if renewal.is_due():
            renewed.add(request % 10)  # ten connections in turn, and a beat of ten requests
    assert renewed == set(range(10))


def test_an_hour_behind_one_address_at_the_default_age_is_shared_out_and_so_is_its_second_half_with_one_more():
    rng, hour, replicas = random.Random(5), 3_600.0, list(range(16))
    renewal, turns = Renewal(300.0, rng), itertools.count()

    def next_replica() -> int:
        return replicas[next(turns) % len(replicas)]

    all_hour, second_half = Counter(), Counter()
    busy = [(rng.uniform(0, 8), next_replica(), 8.0, False) for _ in range(256)]  # end, whose, seconds, the last one
    heapq.heapify(busy)
    while busy[0][0] < hour:
        now, replica, took_s, last = heapq.heappop(busy)
        all_hour[replica] += 1
        if now > hour / 2:
            replicas = list(range(17))
            second_half[replica] += 1
        renewal.worked(took_s)
        took_s = rng.uniform(2, 14)
        heapq.heappush(busy, (now + took_s, next_replica() if last else replica, took_s, renewal.is_due()))
    shares = [all_hour[number] for number in range(16)]
    assert max(shares) <= 1.3 * statistics.mean(shares)
    assert second_half[16] >= 0.8 * statistics.mean(second_half.values())


def test_a_replica_of_a_list_that_comes_up_at_half_time_gets_its_share_of_the_second_half():
    rng, hour = random.Random(5), 3_600.0
    replicas = Replicas([f"http://replica-{number}/v1" for number in range(17)])
    second_half, order = Counter(), itertools.count()

    def send(now: float):
        replica = replicas.take(now)
        is_down = replica.base_url == "http://replica-16/v1" and now < hour / 2
        return (now + (0.01 if is_down else rng.uniform(2, 14)), next(order), replica, is_down)

    busy = [send(0.0) for _ in range(256)]
    heapq.heapify(busy)
    while busy[0][0] < hour:
        now, _, replica, failed = heapq.heappop(busy)
        replicas.give_back(replica, failed=failed, now=now)
        if now > hour / 2 and not failed:
            second_half[replica.base_url] += 1
        heapq.heappush(busy, send(now))
    assert len(second_half) == 17
    assert second_half["http://replica-16/v1"] >= 0.8 * statistics.mean(second_half.values())
    assert max(second_half.values()) <= 1.3 * statistics.mean(second_half.values())


# --- on sockets -------------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def own_engine():
    runtime.close()
    yield
    runtime.close()


@contextlib.contextmanager
def fleet(count: int, **server):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(FakeServer(**server)) for _ in range(count)]


def ask(rows: int, **endpoint) -> pd.DataFrame:
    run = QueryModel(Endpoint("m", **endpoint), prompt="{text}", output="a", journal=False)
    return run(pd.DataFrame({"text": range(rows)}))


def test_sixteen_replicas_as_a_list_get_equal_shares():
    with fleet(16, latency=0.02) as servers:
        out = ask(3_000, base_url=[server.base_url for server in servers], max_concurrent_requests=64)
        shares = [server.ledger.requests for server in servers]
    assert set(out["a__status"]) == {"ok"}
    assert max(shares) <= 1.3 * statistics.mean(shares)


def test_sixteen_replicas_behind_one_address_get_equal_shares_and_one_that_comes_later_its_own():
    # A connection of so short an age serves two or three requests; in an hour at the default age it is the same few.
    count, late = 3_000, []
    with fleet(17, latency=0.1) as servers, Balancer([server.base_url for server in servers[:16]]) as balancer:

        def came(prompt: str, attempt: int) -> None:
            del attempt
            if int(prompt) == count // 2:
                late.extend(server.ledger.requests for server in servers)
                balancer.add(servers[16].base_url)

        for server in servers[:16]:
            server.change(faults=came)
        with dask.config.set({"curator-llm.engine.connection-age": "250ms"}):
            out = ask(count, base_url=balancer.base_url, max_concurrent_requests=128)
        shares = [server.ledger.requests for server in servers]
    since = [now - before for now, before in zip(shares, late, strict=True)]
    assert set(out["a__status"]) == {"ok"}
    assert max(shares[:16]) <= 1.3 * statistics.mean(shares[:16])
    assert late[16] == 0
    assert since[16] >= 0.8 * statistics.mean(since)


def test_connections_that_do_not_age_never_reach_a_replica_that_comes_later():
    with fleet(2, latency=0.005) as servers, Balancer([servers[0].base_url]) as balancer:
        ask(50, base_url=balancer.base_url, max_concurrent_requests=4)
        balancer.add(servers[1].base_url)
        ask(200, base_url=balancer.base_url, max_concurrent_requests=4)
        assert servers[1].ledger.requests == 0


def test_the_sdks_connections_have_an_age_too(monkeypatch):
    with fleet(1, latency=0.01) as (server,):
        module = types.ModuleType("house")
        module.make = lambda: openai.AsyncOpenAI(base_url=server.base_url, api_key="EMPTY")
        monkeypatch.setitem(sys.modules, "house", module)
        with dask.config.set({"curator-llm.engine.connection-age": "100ms"}):
            ask(100, client="house:make", max_concurrent_requests=4)
        assert server.ledger.connections_opened > 8


def test_a_replica_that_is_down_gets_few_requests_and_no_row_fails():
    with fleet(2, latency=0.005) as servers:
        urls = ["http://127.0.0.1:1/v1", *(server.base_url for server in servers)]
        out = ask(500, base_url=urls, max_concurrent_requests=16)
        assert set(out["a__status"]) == {"ok"}
        assert runtime.snapshot()["retried connect"] <= 40


def test_a_replica_that_resets_is_left_alone_while_others_answer():
    with FakeServer(faults=lambda *_: "reset") as sick, FakeServer(latency=0.005) as well:
        out = ask(300, base_url=[well.base_url, sick.base_url], max_concurrent_requests=8)
        assert set(out["a__status"]) == {"ok"}
        assert sick.ledger.requests < 40 < well.ledger.requests
