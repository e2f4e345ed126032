//! A list that grows without moving much.

use alloc::vec::Vec;
use core::fmt;

/// Values in front, which lie together: a vector of so few grows fast enough.
const FRONT: usize = 4_096;

/// Values of a page.
const PAGE: usize = 256;

/// A list of values by their place, which is added to and taken from at its end.
///
/// It is a vector up to 4,096 values, and looked up like one. What comes behind them lies in pages of 256 and is never moved:
/// a vector may copy all that it has when it grows, which for the 25 MB of 100,000 sessions takes 10 ms.
#[derive(Clone)]
pub struct Pages<T> {
    front: Vec<T>,
    /// All of them full but for the last, none of them empty.
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Pages<T> {
    /// An empty list, which takes no memory of the heap.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            front: Vec::new(),
            pages: Vec::new(),
            len: 0,
        }
    }

    /// How many values there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at a place.
    #[must_use]
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        match self.front.get(place) {
            Some(value) => Some(value),
            None => {
                let behind = place.checked_sub(FRONT)?;
                self.pages.get(behind / PAGE)?.get(behind % PAGE)
            }
        }
    }

    /// The value at a place, to change it.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        match self.front.get_mut(place) {
            Some(value) => Some(value),
            None => {
                let behind = place.checked_sub(FRONT)?;
                self.pages.get_mut(behind / PAGE)?.get_mut(behind % PAGE)
            }
        }
    }

    /// The last value.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        match self.pages.last() {
            Some(page) => page.last(),
            None => self.front.last(),
        }
    }

    /// Adds a value at the end.
    pub fn push(&mut self, value: T) {
        self.len += 1;
        if self.front.len() < FRONT {
            return self.front.push(value);
        }
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(value),
            Some(_) | None => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.pages.push(page);
            }
        }
    }

    /// Takes the last value, and gives memory back when most of it is unused.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.saturating_sub(1);
        let Some(last) = self.pages.last_mut() else {
            let value = self.front.pop();
            if self.front.len() < self.front.capacity() / 4 {
                self.front.shrink_to(self.front.len() * 2);
            }
            return value;
        };
        let value = last.pop();
        if last.is_empty() {
            self.pages.pop();
        }
        value
    }

    /// All values in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.front.iter().chain(self.pages.iter().flatten())
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_while_others_come() {
        let mut pages = Pages::new();
        let mut places = Vec::new();
        for value in 0..10_000 {
            pages.push(value);
            if value >= FRONT {
                places.push(core::ptr::from_ref(pages.get(value).unwrap()));
            }
        }
        for (value, place) in (FRONT..).zip(places) {
            assert_eq!(core::ptr::from_ref(pages.get(value).unwrap()), place);
        }
    }

    #[test]
    fn what_is_empty_is_given_back() {
        let mut pages = Pages::new();
        for value in 0..=FRONT + PAGE {
            pages.push(value);
        }
        assert_eq!((pages.pages.len(), pages.pop()), (2, Some(FRONT + PAGE)));
        assert_eq!((pages.pages.len(), pages.len()), (1, FRONT + PAGE));
        while pages.pop().is_some() {}
        assert!(pages.is_empty() && pages.pages.is_empty());
        assert_eq!(pages.front.capacity(), 0);
    }
}
