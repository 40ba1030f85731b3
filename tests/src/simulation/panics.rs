//! A panic in a task of the runtime ends that task and nothing else: it has to be seen.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers panics of this thread from now on.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            LAST.with_borrow_mut(|last| *last = Some(panic.to_string()));
            usual(panic);
        }));
    });
    LAST.with_borrow_mut(Option::take);
}

/// The last panic of this thread, if there was one since.
pub(super) fn take() -> Option<String> {
    LAST.with_borrow_mut(Option::take)
}
