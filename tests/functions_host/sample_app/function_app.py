# The SDK leaves its decorators untyped.
# mypy: disable-error-code="untyped-decorator"
"""Orchestrations, activities and triggers that exercise the host, each pattern under its own name."""

import asyncio
import json
import os
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)
RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=20, max_number_of_attempts=3)
Steps = Generator[Any, Any, Any]
Context = Any  # df.DurableOrchestrationContext, whose own hints are too narrow to work with


def _journal(line: str) -> None:
    """Outlives the process, so that a test sees what really ran."""
    if path := os.environ.get("SAMPLE_JOURNAL"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


# --- activities ---


@app.activity_trigger(input_name="number")
def double(number: int) -> int:
    return number * 2


@app.activity_trigger(input_name="name")
async def greet(name: str) -> str:
    await asyncio.sleep(0)
    return f"hello {name}"


@app.activity_trigger(input_name="order")
def note(order: dict) -> str:  # type: ignore[type-arg] # the worker refuses dict[str, Any]
    """Notes that it runs, and ends after some seconds or when a file exists."""
    _journal(f"{order['tag']}:{order['n']}")
    time.sleep(order.get("seconds", 0))
    while "until" in order and not Path(order["until"]).exists():
        time.sleep(0.01)
    return f"{order['tag']}:{order['n']}"


@app.activity_trigger(input_name="reason")
def fail(reason: str) -> None:
    raise ValueError(reason)


@app.activity_trigger(input_name="key")
def fail_twice(key: str) -> int:
    _journal(key)
    runs = Path(os.environ["SAMPLE_JOURNAL"]).read_text(encoding="utf-8").splitlines().count(key)
    if runs < 3:
        raise ValueError(f"attempt {runs}")
    return runs


# --- orchestrators ---


@app.orchestration_trigger(context_name="context")
def chain(context: Context) -> Steps:
    number = context.get_input()["n"]
    for _ in range(3):
        number = yield context.call_activity("double", number)
    greeting = yield context.call_activity(greet, "you")
    return {"n": number, "greeting": greeting}


@app.orchestration_trigger(context_name="context")
def retrying(context: Context) -> Steps:
    return (yield context.call_activity_with_retry("fail_twice", RETRY, context.get_input()))


@app.orchestration_trigger(context_name="context")
def exhausted(context: Context) -> Steps:
    try:
        yield context.call_activity_with_retry("fail", RETRY, "never")
    except Exception as error:  # noqa: BLE001 - the SDK raises nothing narrower
        after = yield context.call_activity("double", 4)
        return {"error": str(error).splitlines()[0], "after": after}


@app.orchestration_trigger(context_name="context")
def fan_out(context: Context) -> Steps:
    count = context.get_input()["count"]
    plain = [context.call_activity("double", n) for n in range(count)]
    retried = [context.call_activity_with_retry("double", RETRY, n) for n in range(count)]
    results = yield context.task_all(plain + retried)
    return sum(results)


@app.orchestration_trigger(context_name="context")
def fan_out_failing(context: Context) -> Steps:
    tasks = [context.call_activity("double", 1), context.call_activity("fail", "one of them")]
    yield context.task_all(tasks)


@app.orchestration_trigger(context_name="context")
def any_loop(context: Context) -> Steps:
    tasks = [context.call_activity("double", n) for n in range(3)]
    results = []
    while tasks:
        winner = yield context.task_any(tasks)
        tasks.remove(winner)
        results.append(winner.result)
    return sorted(results)


@app.orchestration_trigger(context_name="context")
def timer(context: Context) -> Steps:
    begin = context.current_utc_datetime
    yield context.create_timer(begin + timedelta(seconds=context.get_input()["seconds"]))
    return (context.current_utc_datetime - begin).total_seconds()


@app.orchestration_trigger(context_name="context")
def approval(context: Context) -> Steps:
    """An event against a timer; `forget` leaves the timer open."""
    order = context.get_input()
    deadline = context.create_timer(context.current_utc_datetime + timedelta(seconds=order["seconds"]))
    approved = context.wait_for_external_event("approved")
    winner = yield context.task_any([approved, deadline])
    if winner == approved:
        if not order.get("forget"):
            deadline.cancel()
        return {"approved": approved.result}
    return {"approved": None}


@app.orchestration_trigger(context_name="context")
def late_listener(context: Context) -> Steps:
    """The event arrives while nobody waits."""
    yield context.call_activity("note", {"tag": "late", "n": 0, **context.get_input()})
    return (yield context.wait_for_external_event("early"))


@app.orchestration_trigger(context_name="context")
def parent(context: Context) -> Steps:
    order = context.get_input()
    first = yield context.call_sub_orchestrator("child", {"n": 5}, order.get("childId"))
    second = yield context.call_sub_orchestrator_with_retry("child", RETRY, {"n": 6})
    return [first, second]


@app.orchestration_trigger(context_name="context")
def child(context: Context) -> Steps:
    number = yield context.call_activity("double", context.get_input()["n"])
    return {"n": number, "parent": context.parent_instance_id, "id": context.instance_id}


@app.orchestration_trigger(context_name="context")
def parent_of_failing(context: Context) -> Steps:
    yield context.call_sub_orchestrator_with_retry("raising", RETRY, {"note": "child"})


@app.orchestration_trigger(context_name="context")
def generations(context: Context) -> Steps:
    order = context.get_input()
    # Left behind, cancelled: it must not complete anything of the next generation.
    old = context.create_timer(context.current_utc_datetime + timedelta(milliseconds=30))
    old.cancel()
    work = context.call_activity("double", order["n"])
    yield context.task_any([work, old])
    doubled = yield context.call_activity("double", order["n"])
    if order["left"]:
        context.continue_as_new({"n": doubled, "left": order["left"] - 1})
        return None
    return doubled


@app.orchestration_trigger(context_name="context")
def event_counter(context: Context) -> Steps:
    order = context.get_input()
    value = yield context.wait_for_external_event("tick")
    seen = [*order["seen"], value]
    if len(seen) < 3:
        yield context.call_activity("double", len(seen))
        context.continue_as_new({"seen": seen})
        return None
    return seen


@app.orchestration_trigger(context_name="context")
def redelivered(context: Context) -> Steps:
    """Azure's trap (extension issue 2606): nothing between cancel and continue-as-new."""
    rounds = context.get_input()["rounds"]
    if rounds == 5:
        return "the same event, five times"
    deadline = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    event = context.wait_for_external_event("tick")
    yield context.task_any([event, deadline])
    deadline.cancel()
    context.continue_as_new({"rounds": rounds + 1})
    return None


@app.orchestration_trigger(context_name="context")
def three_waits(context: Context) -> Steps:
    """The SDK's trap (issue 507): several events of one name before the first wait."""
    yield context.call_activity("note", {"tag": "three", "n": 0, **context.get_input()})
    first = yield context.wait_for_external_event("tick")
    second = yield context.wait_for_external_event("tick")
    third = yield context.wait_for_external_event("tick")
    return [first, second, third]


@app.orchestration_trigger(context_name="context")
def deterministic(context: Context) -> Steps:
    """The clock and the guids must be the same in every replay."""
    seen = [(str(context.new_guid()), context.new_uuid(), context.current_utc_datetime.isoformat())]
    context.set_custom_status({"step": 1})
    yield context.call_activity("double", 1)
    seen.append((str(context.new_guid()), context.new_uuid(), context.current_utc_datetime.isoformat()))
    context.set_custom_status({"step": 2, "guid": seen[0][0]})
    yield context.wait_for_external_event("go")
    return seen


@app.orchestration_trigger(context_name="context")
def raising(context: Context) -> Steps:
    yield context.call_activity("double", 1)
    raise ValueError("broken orchestrator")


@app.orchestration_trigger(context_name="context")
def calls_nobody(context: Context) -> Steps:
    yield context.call_activity("no_such_activity", 1)


@app.orchestration_trigger(context_name="context")
def unstable(context: Context) -> Steps:
    """Not deterministic on purpose: what it calls depends on how often it ran."""
    _journal("unstable")
    runs = Path(os.environ["SAMPLE_JOURNAL"]).read_text(encoding="utf-8").splitlines().count("unstable")
    name = "double" if runs == 1 else "greet"
    yield context.call_activity(name, 1)


@app.orchestration_trigger(context_name="context")
def uses_http(context: Context) -> Steps:
    yield context.call_http("GET", "http://127.0.0.1/")


@app.orchestration_trigger(context_name="context")
def big_status(context: Context) -> Steps:
    context.set_custom_status("x" * 9000)
    yield context.call_activity("double", 1)


@app.orchestration_trigger(context_name="context")
def slow_chain(context: Context) -> Steps:
    order = context.get_input()
    results = []
    for n in range(order["count"]):
        step = {"tag": order["tag"], "n": n, "seconds": order.get("seconds", 0)}
        if "until" in order:
            step["until"] = f"{order['until']}.{n}"
        results.append((yield context.call_activity("note", step)))
    return results


# --- triggers ---


@app.route(route="start/{name}/{id?}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: str) -> func.HttpResponse:
    durable: Any = client  # the decorator puts the rich client here
    body = req.get_json() if req.get_body() else None
    name, wanted = req.route_params["name"], req.route_params.get("id")
    instance_id = await durable.start_new(name, wanted, body)
    return durable.create_check_status_response(req, instance_id)  # type: ignore[no-any-return] # SDK's Any


@app.route(route="wait/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def wait(req: func.HttpRequest, client: str) -> func.HttpResponse:
    durable: Any = client
    instance_id = await durable.start_new(req.route_params["name"], None, req.get_json())
    return await durable.wait_for_completion_or_create_check_status_response(  # type: ignore[no-any-return] # SDK's Any
        req, instance_id, 5000, 50
    )


@app.route(route="client/{operation}/{id}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def operate(req: func.HttpRequest, client: str) -> func.HttpResponse:
    """Every client call of the SDK, by its own code."""
    durable: Any = client
    operation, instance_id = req.route_params["operation"], req.route_params["id"]
    result: Any = None
    if operation == "raise_event":
        await durable.raise_event(instance_id, req.params["event"], req.get_json())
    elif operation in {"terminate", "suspend", "resume", "rewind"}:
        await getattr(durable, operation)(instance_id, "a reason")
    elif operation == "restart":
        result = await durable.restart(instance_id, restart_with_new_instance_id=False)
    elif operation == "purge":
        result = (await durable.purge_instance_history(instance_id)).instances_deleted
    elif operation == "status":
        result = (await durable.get_status(instance_id, show_input=True)).to_json()
    elif operation == "list":
        found = await durable.get_status_by(instance_id_prefix=instance_id)
        result = [status.instance_id for status in found]
    return func.HttpResponse(json.dumps(result), mimetype="application/json")


@app.route(route="echo/{number:int}/{*rest}", methods=["GET", "PUT"])
def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "params": dict(req.route_params),
        "query": dict(req.params),
        "size": len(req.get_body()),
        "function": context.function_name,
    }
    headers = {"X-Sample": "yes", "Set-Cookie": "a=1; Path=/"}
    return func.HttpResponse(json.dumps(seen), status_code=203, headers=headers, mimetype="application/json")


@app.route()
def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError(f"no answer to {req.method}")


if os.environ.get("SAMPLE_TIMERS"):

    @app.timer_trigger(arg_name="tick", schedule="%SAMPLE_SCHEDULE%")
    @app.durable_client_input(client_name="client")
    async def swept(tick: func.TimerRequest, client: str) -> None:
        """Starts an orchestration, as a reconciler does; when slow, a test can kill the host meanwhile."""
        durable: Any = client
        _journal(f"swept {tick.past_due}")
        await asyncio.sleep(float(os.environ.get("SAMPLE_TIMER_SECONDS", "0")))
        await durable.start_new("chain", None, {"n": 1})
        _journal("swept to the end")

    @app.timer_trigger(arg_name="tick", schedule="01:00:00")
    def hourly(tick: func.TimerRequest) -> None:
        _journal(f"hourly {tick.past_due}")


if os.environ.get("SAMPLE_BLOBS"):

    @app.blob_trigger(arg_name="blob", path="incoming/{transfer}/manifest.json", connection="Sample")
    def arrived(blob: func.InputStream) -> None:
        body = blob.read()
        metadata = blob.metadata  # type: ignore[attr-defined] # the abstract class lacks it
        _journal(f"{blob.name} {blob.length} {len(body)} {metadata}")
        if b"poison" in body:
            raise ValueError("poison")

    @app.blob_trigger(arg_name="blob", path="incoming/{transfer}/start.json", connection="Sample")
    @app.durable_client_input(client_name="client")
    async def begins(blob: func.InputStream, client: str) -> None:
        durable: Any = client
        order = json.loads(blob.read())
        if not await durable.get_status(order["id"]):
            await durable.start_new("chain", order["id"], {"n": order["n"]})
