//! OpenAI chat completions, completions, embeddings and models.

pub(crate) mod base64;
pub mod chat;
pub mod error;
pub mod models;
pub mod raw_lane;
pub mod request;
pub mod response;
pub mod stream;
pub(crate) mod view;
pub(crate) mod wire;
pub(crate) mod write;
