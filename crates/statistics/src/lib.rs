//! Statistics: counters and histograms of every upstream group, server and switch key, windows over them, and their
//! rendering.
//!
//! Owns: the numbers and what they are called. Must never: read a clock, or cost a request more than some nanoseconds.
//!
//! 1. Each thread has a [`Recorder`] for each generation of the configuration, numbered by the generation's [`Layout`].
//! 2. About once a second, and on each read, a thread hands it to the process' [`Collector`], which keeps
//!    totals and windows by name.
//! 3. A [`Summary`] of the collector is shown by [`render`], or compared with [`compare::compare`].
//!
//! ```
//! use pointsman_statistics::render::{Exposition, metrics};
//! use pointsman_statistics::{Collector, GroupLayout, Layout, Recorder, RequestEnd, Snapshot, Window};
//! use std::sync::Arc;
//!
//! let groups = vec![GroupLayout { name: "blue".into(), peers: vec!["127.0.0.1:8081".into()] }];
//! let layout = Arc::new(Layout { groups, switches: Vec::new(), max_keys: 100 });
//! let mut collector = Collector::new(Arc::clone(&layout), 0);
//!
//! // On a worker thread, for each request:
//! let mut recorder = Recorder::new(layout);
//! recorder.request_began(0);
//! recorder.request_ended(0, &RequestEnd { status: 200, response_us: Some(1_500), ..Default::default() });
//!
//! // Once a second:
//! collector.absorb(&mut recorder, 1_000);
//! let summary = collector.summary(Window::Minute, 2_000);
//! assert_eq!(summary.groups[0].window.response.mean_us(), Some(1_500.0));
//! let page = metrics(&summary, &Snapshot::default(), Exposition::OpenMetrics);
//! assert!(page.contains("pointsman_upstream_requests_total{upstream=\"blue\",status=\"2xx\"} 1"));
//! ```

mod answers;
mod collector;
pub mod compare;
mod counters;
mod course;
mod histogram;
mod layout;
mod recorder;
pub mod render;
mod series;
mod slot;
mod snapshot;
mod summary;
#[cfg(test)]
mod testing;
mod window;

pub use answers::{Answered, Answers, WatchedAnswers};
pub use collector::Collector;
pub use counters::{CLASSES, Counters, Failure, RequestEnd, TryEnd};
pub use course::{Course, CoursePoint};
pub use histogram::Histogram;
pub use layout::{GroupLayout, Layout, OTHER};
pub use recorder::{Recorder, RoutedRequest};
pub use snapshot::{
    CertificateNow, CheckNow, Connections, GroupCondition, PeerNow, PeerSource, PeerState, Snapshot,
    SwitchNow,
};
pub use summary::{GroupSummary, KeySummary, PeerSummary, Summary, SwitchSummary, TargetSummary};
pub use window::Window;
