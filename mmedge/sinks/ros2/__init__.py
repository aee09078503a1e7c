"""Results as ROS 2 topics, without a ROS installation."""

from mmedge.sinks.ros2.sink import Ros2, open_ros2

__all__ = ["Ros2", "open_ros2"]
