//! OpenAI chat completions, completions, embeddings and models.

pub(crate) mod base64;
pub mod chat;
pub(crate) mod effort;
pub mod error;
pub mod models;
pub(crate) mod own;
pub mod raw_lane;
mod reasoning;
pub mod request;
pub mod response;
pub mod stream;
pub(crate) mod view;
pub(crate) mod wire;
pub(crate) mod write;
