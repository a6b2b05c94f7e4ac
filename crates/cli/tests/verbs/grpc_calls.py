"""A real gRPC implementation (grpcio) on both sides of a proxy: `grpc_calls.py BLUE GREEN FRONT TLS_FRONT CA STREAMS`.

Serves as blue and green at two ports, calls them through the proxy at FRONT (in clear) and TLS_FRONT, and says on standard output
what was called. Says `streaming`, then waits for a line on standard input before it looks at what became of its streams.
"""

import asyncio
import resource
import sys

import grpc

BLUE, GREEN, FRONT, TLS_FRONT, CA, STREAMS = sys.argv[1:]
STREAMS = int(STREAMS)

# The server's side of each stream is a connection.
_, MOST = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(MOST, 8192) if MOST > 0 else 8192, MOST))


class Service(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name.encode()
        self.cancelled = asyncio.Event()

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        kinds = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
            "unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "count": grpc.unary_stream_rpc_method_handler(self.count),
            "echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "forever": grpc.unary_stream_rpc_method_handler(self.forever),
            "sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        return kinds.get(method)

    async def check(self, request, context):
        if request:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        # HealthCheckResponse with SERVING.
        return b"\x08\x01"

    async def unary(self, request, context):
        context.set_trailing_metadata((("served-by", self.name.decode()),))
        return self.name + b":" + request

    async def collect(self, requests, context):
        total = 0
        async for request in requests:
            total += len(request)
        return str(total).encode()

    async def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode() * 100

    async def echo(self, requests, context):
        async for request in requests:
            yield request

    async def forever(self, request, context):
        yield self.name
        try:
            while True:
                await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def sleep(self, request, context):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"late"

    async def fail(self, request, context):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: " + request.decode())


async def serve(port, service):
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service,))
    assert server.add_insecure_port("127.0.0.1:" + port)
    await server.start()
    return server


async def status_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def calls(channel, blue):
    call = channel.unary_unary("/t.S/unary")(b"hi")
    assert await call == b"blue:hi"
    assert ("served-by", "blue") in [tuple(pair) for pair in await call.trailing_metadata()]

    big = b"x" * 100_000
    assert await channel.stream_unary("/t.S/collect")(iter([big] * 30)) == b"3000000"

    got = [message async for message in channel.unary_stream("/t.S/count")(b"2000")]
    assert got == [str(number).encode() * 100 for number in range(2000)]

    # Each answer is awaited before the next message goes.
    call = channel.stream_stream("/t.S/echo")()
    for number in range(50):
        await call.write(str(number).encode())
        assert await call.read() == str(number).encode()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF and await call.code() == grpc.StatusCode.OK

    # More than all windows hold goes in before anything is read.
    call = channel.stream_stream("/t.S/echo")()
    reader = asyncio.ensure_future(later(call))
    for _ in range(40):
        await call.write(big)
    await call.done_writing()
    assert await reader == 40 * len(big)

    assert await status_of(channel.unary_unary("/t.S/fail")(b"x")) == grpc.StatusCode.FAILED_PRECONDITION
    assert await status_of(channel.unary_unary("/t.S/nosuch")(b"x")) == grpc.StatusCode.UNIMPLEMENTED

    blue.cancelled.clear()
    late = channel.unary_unary("/t.S/sleep")(b"", timeout=0.3)
    assert await status_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(blue.cancelled.wait(), 10)

    blue.cancelled.clear()
    call = channel.unary_stream("/t.S/forever")(b"")
    assert await call.read() == b"blue"
    call.cancel()
    await asyncio.wait_for(blue.cancelled.wait(), 10)


async def later(call):
    await asyncio.sleep(0.3)
    total = 0
    async for message in call:
        total += len(message)
    return total


async def switched(channel):
    streams = []
    for _ in range(STREAMS):
        call = channel.unary_stream("/t.S/forever")(b"")
        assert await call.read() == b"blue"
        streams.append(call)
    # What has gone on for a second is a stream.
    await asyncio.sleep(1.5)
    print("streaming", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    codes = {}
    for call in streams:
        code = await asyncio.wait_for(ended(call), 60)
        codes[code] = codes.get(code, 0) + 1
    assert codes == {grpc.StatusCode.UNAVAILABLE: STREAMS}, codes
    assert await channel.unary_unary("/t.S/unary")(b"hi") == b"green:hi"
    state = channel.get_state()
    assert state == grpc.ChannelConnectivity.READY, state


async def ended(call):
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass
    return await call.code()


async def main():
    blue = Service("blue")
    servers = [await serve(BLUE, blue), await serve(GREEN, Service("green"))]
    with open(CA, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", "front.test"), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel("127.0.0.1:" + TLS_FRONT, credentials, options=options) as channel:
        await calls(channel, blue)
        print("called over TLS", flush=True)
    async with grpc.aio.insecure_channel("127.0.0.1:" + FRONT) as channel:
        await calls(channel, blue)
        print("called in clear", flush=True)
        await switched(channel)
        print("switched", flush=True)
    for server in servers:
        await server.stop(None)


asyncio.run(main())
