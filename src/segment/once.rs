//! Values that are made when they are first asked for.

use std::sync::OnceLock;

use once_cell::race::OnceBox;

/// A value that is made once, by the thread that asks first, while others wait for it.
///
/// A forked process does not wait, since the parent's thread that was making the value is not
/// there. The child uses a value that was made before the fork, and makes a missing one itself.
#[derive(Debug)]
pub(super) struct Once<T> {
    made: OnceLock<T>,
    made_after_fork: OnceBox<T>,
}

impl<T> Once<T> {
    pub(super) const fn new() -> Self {
        Self {
            made: OnceLock::new(),
            made_after_fork: OnceBox::new(),
        }
    }

    /// The value, if it has been made. Never waits.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        match self.made.get() {
            Some(made) => Some(made),
            None => self.made_after_fork.get(),
        }
    }

    /// The value, made now if it is missing. `is_forked` says whether this process is a fork of the
    /// process that made the cell.
    #[inline]
    pub(super) fn get_or_init(
        &self,
        is_forked: impl FnOnce() -> bool,
        make: impl FnOnce() -> T,
    ) -> &T {
        match self.get() {
            Some(value) => value,
            None => self.init(is_forked(), make),
        }
    }

    #[cold]
    fn init(&self, is_forked: bool, make: impl FnOnce() -> T) -> &T {
        if is_forked {
            // Several threads may make a value here; all of them use the first that is stored.
            self.made_after_fork.get_or_init(|| Box::new(make()))
        } else {
            self.made.get_or_init(make)
        }
    }
}

impl<T> From<T> for Once<T> {
    fn from(made: T) -> Self {
        Self {
            made: OnceLock::from(made),
            made_after_fork: OnceBox::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn h59_a_forked_process_does_not_wait_for_a_value_that_a_lost_thread_makes() {
        let once = Once::new();
        let (say_begun, wait_begun) = mpsc::channel();
        let (say_end, wait_end) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                once.get_or_init(
                    || false,
                    move || {
                        say_begun.send(()).unwrap();
                        wait_end.recv().unwrap();
                        1
                    },
                )
            });
            wait_begun.recv().unwrap();
            assert_eq!(once.get(), None);
            assert_eq!(*once.get_or_init(|| true, || 2), 2);
            assert_eq!(once.get(), Some(&2));
            say_end.send(()).unwrap();
        });
        assert_eq!(once.get(), Some(&1));
    }
}
