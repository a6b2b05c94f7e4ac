//! Streams of the old side, and when they are closed.

use super::*;

#[test]
fn promise_7_streams_are_closed_evenly_beside_slow_requests() {
    let server = Server::start("streams close spread=4s;", "");
    let mut origins = Vec::new();
    let streams: Vec<UnixStream> = (0..8)
        .map(|_| {
            let client = server.ask("a.example");
            let mut origin = server.asked_blue();
            origin
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
                .unwrap();
            let mut head = [0; 12];
            (&client).read_exact(&mut head).unwrap();
            origins.push(origin);
            client
        })
        .collect();
    let slow: Vec<_> = (0..40).map(|_| (server.ask("a.example"), server.asked_blue())).collect();
    let began = Instant::now();
    server.say(&["switch", "a.example", "green"]).done();
    let ends = streams.into_iter().map(|mut stream| {
        std::thread::spawn(move || {
            let _ = stream.read_to_end(&mut Vec::new());
            began.elapsed()
        })
    });
    let mut ends: Vec<Duration> =
        ends.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
    ends.sort();
    // One of the two workers has at least four of them: its last one goes at three quarters of the time or later.
    let (first, last) = (ends[0], ends[ends.len() - 1]);
    assert!(first < Duration::from_millis(2_500), "{ends:?}");
    assert!(last >= Duration::from_millis(2_900), "{ends:?}");
    drop(slow);
}
