# High and low water, twice a day.
module Tide
  def self.at(hour)
    (hour % 12).between?(3, 8) ? "high" : "low"
  end
end
