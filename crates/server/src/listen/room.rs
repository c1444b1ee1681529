//! How many connections, or readers of the feed, one network may have: nobody takes all the places there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use keyward_model::caller::Network;

/// Counts what each network has. It remembers those that have some, so it is never larger than all there are.
pub(crate) struct Room {
    open: Mutex<HashMap<Network, u32>>,
    most: u32,
    /// A proxy's connections are those of all its clients.
    exempt: Vec<IpNet>,
}

/// One connection's part of its network's room, until dropped.
pub(crate) struct Part(Option<(Arc<Room>, Network)>);

impl Room {
    /// For so many of each network but these.
    pub(crate) fn new(most: u32, exempt: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), most, exempt })
    }

    /// Room for one more from this address, if its network has any left.
    pub(crate) fn part(self: &Arc<Self>, address: IpAddr) -> Option<Part> {
        if self.exempt.iter().any(|net| net.contains(&address.to_canonical())) {
            return Some(Part(None));
        }
        let network = Network::from(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Part(Some((Arc::clone(self), network))))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some((room, network)) = self.0.take() else { return };
        let mut open = room.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_much_room_and_gets_it_back() {
        let room = Room::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let part = |text: &str| room.part(text.parse().unwrap());
        let (one, two) = (part("2001:db8::1"), part("2001:db8::2"));
        assert!(one.is_some() && two.is_some());
        assert!(part("2001:db8::3").is_none(), "the same /64");
        let elsewhere = (part("2001:db8:0:1::1"), part("192.0.2.1"), part("::ffff:192.0.2.1"));
        assert!(elsewhere.0.is_some() && elsewhere.1.is_some() && elsewhere.2.is_some());
        assert!(part("192.0.2.1").is_none());
        drop(one);
        assert!(part("2001:db8::3").is_some());
        let proxy: Vec<_> = (0..10).map(|_| part("::ffff:10.1.2.3")).collect();
        assert!(proxy.iter().all(Option::is_some));
        drop((two, elsewhere, proxy));
        assert!(room.open.lock().unwrap().is_empty());
    }
}
