//! Decisions without effects: which instances to start and to stop
//! (`reconcile`, asked by the data process), and when to start one again after
//! an exit (`backoff`, asked by the keeper); `rollout` says when a replacement is over
//! or to be given up; `room` says how many more instances would fit; `template` makes specifications of
//! settings. Time is an argument; nothing here
//! starts, stops or reads anything.

pub mod backoff;
pub mod canary;
pub mod reconcile;
pub mod rollout;
pub mod room;
pub mod template;
