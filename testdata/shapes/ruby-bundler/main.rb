require "tide"

hour = Integer(ARGV.fetch(0))
puts "At #{hour} o'clock the water is #{Tide.at(hour)}."
