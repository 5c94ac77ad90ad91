//! The request as each candidate gets it: within the bounds of the model that it serves, and of the key that asks.

use std::sync::Arc;

use penstock_domain::{Request, Task};
use penstock_routing::Model;

/// A request and what bounds it.
pub(crate) struct Terms {
    request: Arc<Request>,
    /// The bound of the key.
    most: Option<u32>,
    /// The request with a bound of ours, made for the candidate before: the next one usually has the same.
    bounded: Option<(u32, Arc<Request>)>,
}

/// What bounds an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// What was asked for.
    Asked,
    /// The operator's, because the asker named none.
    Default(u32),
    /// The operator's, in place of more.
    Clamped(u32),
}

impl Terms {
    pub(crate) fn new(request: Arc<Request>, most: Option<u32>) -> Self {
        Self { request, most, bounded: None }
    }

    /// The request as it was asked.
    pub(crate) fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// The bound of the answer of a candidate that serves this model, where there is one.
    pub(crate) fn output(&self, serves: Option<&Model>) -> Option<u32> {
        match self.bound(serves) {
            Bound::Asked => self.request.max_output_tokens,
            Bound::Default(most) | Bound::Clamped(most) => Some(most),
        }
    }

    fn bound(&self, serves: Option<&Model>) -> Bound {
        if !matches!(self.request.task, Task::Chat | Task::Completion) {
            return Bound::Asked;
        }
        let model = serves.and_then(|model| model.max_output_tokens);
        let most = model.into_iter().chain(self.most).min();
        match (self.request.max_output_tokens, most) {
            (Some(asked), Some(most)) if asked > most => Bound::Clamped(most),
            (Some(_), _) => Bound::Asked,
            (None, most) => match (serves.and_then(|model| model.default_output_tokens), most) {
                (Some(usual), Some(most)) if usual > most => Bound::Clamped(most),
                (Some(usual), _) => Bound::Default(usual),
                (None, Some(most)) => Bound::Clamped(most),
                (None, None) => Bound::Asked,
            },
        }
    }

    /// The request for a candidate that serves this model, and the bound that holds instead of what was asked for.
    pub(crate) fn request_for(&mut self, serves: Option<&Model>) -> (Arc<Request>, Option<u32>) {
        let (bound, clamped) = match self.bound(serves) {
            Bound::Asked => return (Arc::clone(&self.request), None),
            Bound::Default(bound) => (bound, None),
            Bound::Clamped(bound) => (bound, Some(bound)),
        };
        let request = match &self.bounded {
            Some((made, request)) if *made == bound => Arc::clone(request),
            _ => {
                let request = Arc::new(within(&self.request, bound));
                self.bounded = Some((bound, Arc::clone(&request)));
                request
            }
        };
        (request, clamped)
    }
}

/// The request with this bound of its answer.
pub(super) fn within(request: &Request, bound: u32) -> Request {
    Request { max_output_tokens: Some(bound), body: request.body.bounded(bound), ..request.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::request;

    fn bound(asked: Option<u32>, key: Option<u32>, most: Option<u32>, usual: Option<u32>) -> Bound {
        let model =
            Model { max_output_tokens: most, default_output_tokens: usual, ..Model::single("m", "p", None) };
        let request = Request { max_output_tokens: asked, ..request("m") };
        Terms::new(Arc::new(request), key).bound(Some(&model))
    }

    #[test]
    fn the_smallest_of_key_model_and_wish_bounds_an_answer() {
        assert_eq!(bound(Some(50), None, Some(100), Some(10)), Bound::Asked);
        assert_eq!(bound(Some(500), None, Some(100), None), Bound::Clamped(100));
        assert_eq!(bound(Some(500), Some(40), Some(100), None), Bound::Clamped(40));
        assert_eq!(bound(None, None, Some(100), Some(10)), Bound::Default(10));
        assert_eq!(bound(None, Some(5), None, Some(10)), Bound::Clamped(5));
        assert_eq!(bound(None, None, Some(100), None), Bound::Clamped(100));
        assert_eq!(bound(None, None, None, None), Bound::Asked);
    }

    #[test]
    fn a_bound_that_was_made_serves_the_next_candidate_too_and_what_has_none_is_untouched() {
        let asked = Arc::new(Request { max_output_tokens: Some(500), ..request("m") });
        let mut terms = Terms::new(Arc::clone(&asked), None);
        assert!(Arc::ptr_eq(&terms.request_for(None).0, &asked));
        let small = Model { max_output_tokens: Some(7), ..Model::single("m", "p", None) };
        let (first, clamped) = terms.request_for(Some(&small));
        assert_eq!((first.max_output_tokens, first.body.bound(), clamped), (Some(7), Some(7), Some(7)));
        assert!(Arc::ptr_eq(&first, &terms.request_for(Some(&small)).0));
    }
}
