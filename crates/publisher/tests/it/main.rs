//! Publishing with buckets in memory: the uploads that go live, and the uploads that do not.

mod publish;
